import pytest

from service.datasets.errors import ImageBomb
from service.datasets.images import Decoder, ImageFacts, UnreadableImageError
from tests.data.pictures import BOMBS, READABLE, UNREADABLE, picture

DECODER = Decoder(max_pixels=120_000_000)


@pytest.mark.parametrize("name", READABLE)
def test_what_a_viewer_opens_is_read(name):
    assert DECODER.check(READABLE[name], name=name).width >= 1


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_decoded_is_named_with_its_reason(name):
    data, words = UNREADABLE[name]
    with pytest.raises(UnreadableImageError, match=words):
        DECODER.check(data, name=name)


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(name):
    with pytest.raises(ImageBomb, match="bombs/it"):
        DECODER.check(BOMBS[name], name="bombs/it")


def test_facts_are_of_the_stored_image():
    jpeg = picture(kind="JPEG", size=(301, 203))
    assert DECODER.check(jpeg, name="x") == ImageFacts(301, 203, "JPEG", "RGB", animated=False)
    assert DECODER.check(READABLE["cmyk jpeg"], name="x").mode == "CMYK"
    assert DECODER.check(READABLE["16-bit png"], name="x").mode == "I;16"
    assert [DECODER.check(READABLE[name], name="x").animated for name in READABLE if "animated" in name] == [True] * 3


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_found_although_it_is_decoded_small(progressive):
    whole = picture(kind="JPEG", size=(200, 150), progressive=progressive)
    DECODER.check(whole, name="whole")
    for cut in range(0, len(whole) - 2, 211):
        with pytest.raises(UnreadableImageError):
            DECODER.check(whole[:cut], name="cut")
