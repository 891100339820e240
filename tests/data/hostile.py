"""Archives and images that mean no good, any number of them, each made anew from a seed and its number."""

import bz2
import gzip
import io
import json
import random
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets.limits import Limits
from tests.data.archives import GOOD, REFUSED, Refused, tar_bytes, zip_bytes
from tests.data.pictures import BOMBS, HEIC, SVG, UNREADABLE, animated, picture, png_claiming

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
_NAMES = (
    "cat/\u202egnp.exe",
    "cat/" + "é" * 120 + ".png",
    "cat/" + "d/" * 60 + "x.png",
    "cat/ .png",
    "cat/...png",
    "cat/con.png",
    "cat/a:b.png",
    "cat/-rf.png",
    "cat/$(id).png",
    "cat/<script>.png",
    "cat/\U0001f408.png",
    "CAT/0.png",
    "cat/0.PNG",
    "cat//0.png",
    "./cat/./new.png",
    "cat/%2e%2e%2fx.png",
    "..\\..\\x.png",
    "/abs/x.png",
    "../x.png",
    "cat/\x7f.png",
    "train/cat/x.png",
    "labels.csv",
    "metadata.jsonl",
    ".zattrs",
)


def hostile(number: int, /, *, seed: int = 0) -> tuple[str, bytes]:
    """What it is called, and what is sent. One in six is good but for one thing that costs that file alone."""
    dice = random.Random(f"{seed} {number}")
    make = _KINDS[number % len(_KINDS)]
    return make.__name__.strip("_"), make(dice)


def _parquet(images: list[bytes]) -> bytes:
    table = pa.table({"image": [{"bytes": data, "path": ""} for data in images], "label": [0, 1] * (len(images) // 2)})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _fresh(dice: random.Random, files: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """A good dataset that no other input is."""
    return {**GOOD, "cat/own.png": picture(dice.getrandbits(30)), **(files or {})}


def _packed(dice: random.Random, files: dict[str, bytes]) -> bytes:
    match dice.randrange(5):
        case 0:
            return tar_bytes(files)
        case 1:
            return gzip.compress(tar_bytes(files))
        case 2:
            return bz2.compress(tar_bytes(files))
        case _:
            return zip_bytes(files)


def _damaged(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 2, 8, 40))):
        if not changed:
            break
        # Where an archive keeps its directory, and an image its header, more often than elsewhere.
        near = dice.choice((len(changed), min(len(changed), 300)))
        at = dice.randrange(near) if dice.random() < 0.7 else len(changed) - 1 - dice.randrange(near)
        match dice.randrange(5):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at : at + 4] = dice.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
                )
            case 2:
                del changed[at : at + dice.randrange(1, 64)]
            case 3:
                changed[at:at] = dice.randbytes(dice.randrange(1, 64))
            case _:
                start = dice.randrange(len(changed))
                changed[at:at] = changed[start : start + 200]
    return bytes(changed)


def _an_archive_with_damage(dice: random.Random) -> bytes:
    return _damaged(dice, _packed(dice, _fresh(dice)))


def _an_archive_cut_short(dice: random.Random) -> bytes:
    data = _packed(dice, _fresh(dice))
    return data[: dice.randrange(len(data))]


def _a_known_refusal(dice: random.Random) -> bytes:
    usual = [case for case in REFUSED.values() if case.limits == Limits() and not _makes_a_folder(case)]
    made = dice.choice(usual).make
    return made if isinstance(made, bytes) else made()  # type: ignore[call-arg, return-value]


def _makes_a_folder(case: Refused) -> bool:
    return (
        callable(case.make) and getattr(case.make, "__code__", None) is not None and case.make.__code__.co_argcount > 0
    )


def _odd_names(dice: random.Random) -> bytes:
    odd = {name: picture(dice.getrandbits(30)) for name in dice.sample(_NAMES, dice.randrange(1, 4))}
    return _packed(dice, _fresh(dice, odd))


def _a_bomb(dice: random.Random) -> bytes:
    flat = bytes(dice.choice((1 << 20, 70 << 20, 150 << 20)))
    match dice.randrange(4):
        case 0:
            return gzip.compress(flat, 1)
        case 1:
            return zip_bytes(_fresh(dice, {"cat/flat.png": flat}))
        case 2:
            return gzip.compress(tar_bytes(_fresh(dice, {"cat/flat.png": flat})), 1)
        case _:
            return gzip.compress(gzip.compress(flat, 1), 1)


def _an_image_with_damage(dice: random.Random) -> bytes:
    kind = dice.choice(_FORMATS)
    mode = "P" if kind == "GIF" else dice.choice(("RGB", "L"))
    whole = picture(dice.getrandbits(30), kind=kind, mode=mode, size=(dice.randrange(1, 90), dice.randrange(1, 90)))
    broken = {f"dog/{n}.{kind.lower()}": _damaged(dice, whole) for n in range(3)}
    return _packed(dice, _fresh(dice, broken))


def _an_image_cut_short(dice: random.Random) -> bytes:
    kind = dice.choice(_FORMATS)
    whole = picture(dice.getrandbits(30), kind=kind, size=(64, 64))
    return _packed(dice, _fresh(dice, {f"dog/x.{kind.lower()}": whole[: dice.randrange(len(whole))]}))


def _an_image_that_is_huge(dice: random.Random) -> bytes:
    bombs = [
        *BOMBS.values(),
        png_claiming(2**31 - 1, 2**31 - 1),
        png_claiming(1, 2**31 - 1),
        png_claiming(11_000, 9_000),
    ]
    return _packed(dice, _fresh(dice, {"cat/huge.png": dice.choice(bombs)}))


def _an_image_that_is_two_things(dice: random.Random) -> bytes:
    image = picture(dice.getrandbits(30), kind=dice.choice(("PNG", "JPEG", "GIF")))
    other = dice.choice(
        (zip_bytes(GOOD), SVG, b"<script>alert(1)</script>", b"%PDF-1.7\n", HEIC, gzip.compress(bytes(999)))
    )
    return dice.choice(
        (
            lambda: _packed(dice, _fresh(dice, {"cat/both.png": image + other})),
            lambda: image + zip_bytes(_fresh(dice)),  # an image in front, a zip behind
            lambda: zip_bytes(_fresh(dice)) + image,
            lambda: _packed(dice, _fresh(dice, {"cat/other.jpg": other})),
        )
    )()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _an_image_with_a_bomb_in_its_notes(dice: random.Random) -> bytes:
    inflated = zlib.compress(bytes(dice.choice((1 << 20, 64 << 20))))
    note = dice.choice((b"zTXt", b"iCCP", b"iTXt"))
    body = b"note\0\0" + inflated if note != b"iTXt" else b"note\0\x01\0\0\0" + inflated
    plain = picture(dice.getrandbits(30))
    return _packed(dice, _fresh(dice, {"cat/notes.png": plain[:33] + _chunk(note, body) * 3 + plain[33:]}))


def _an_image_of_no_kind(dice: random.Random) -> bytes:
    odd = dice.sample(sorted(UNREADABLE), 3)
    return _packed(dice, _fresh(dice, {f"cat/{n}.jpg": UNREADABLE[name][0] for n, name in enumerate(odd)}))


def _a_tiff_of_many_tags(dice: random.Random) -> bytes:
    tags = dice.choice((0, 1, 400, 65_535))
    entries = b"".join(
        struct.pack("<HHLL", dice.randrange(65_536), dice.randrange(14), 2**31, 8) for _ in range(min(tags, 999))
    )
    tiff = (
        b"II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + struct.pack("<L", dice.choice((0, 8)))
    )  # its own next
    return _packed(dice, _fresh(dice, {"cat/tags.tif": tiff, "cat/frames.gif": animated("GIF")}))


def _a_parquet_with_damage(dice: random.Random) -> bytes:
    data = _parquet([picture(dice.getrandbits(30)) for _ in range(4)] + [b"", b"text"])
    return _damaged(dice, data) if dice.random() < 0.8 else data[: dice.randrange(len(data))]


def _a_table_of_labels_that_lies(dice: random.Random) -> bytes:
    lines = ["path,label,split", *(f"{path},{path[:3]},train" for path in GOOD)]
    lies = [
        "../../etc/passwd,cat,train",
        "cat/0.png,\x00,train",
        "nowhere.png,dog,train",
        '"',
        "cat/0.png,dog,nosplit",
        "," * 999,
    ]
    lines[dice.randrange(len(lines)) :] = dice.sample(lies, 2)
    return _packed(dice, _fresh(dice, {"labels.csv": "\n".join(lines).encode()}))


def _noise(dice: random.Random) -> bytes:
    heads = (
        b"",
        b"PK\3\4",
        b"PK\5\6",
        b"\x1f\x8b\x08",
        b"BZh9",
        b"PAR1",
        b"ustar",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    )
    return dice.choice(heads) + dice.randbytes(dice.choice((0, 1, 30, 600, 20_000)))


def _an_image_of_many_pixels(dice: random.Random) -> bytes:
    """Well-formed and within every limit: what memory it takes must be given back."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (dice.randrange(2000, 6000), dice.randrange(2000, 4000)), dice.choice(("red", "blue"))).save(
        out, "PNG"
    )
    return zip_bytes(_fresh(dice, {"cat/large.png": out.getvalue()}))


_KINDS = (
    _an_archive_with_damage,
    _an_image_with_damage,
    _an_archive_cut_short,
    _an_image_cut_short,
    _a_known_refusal,
    _an_image_that_is_huge,
    _odd_names,
    _an_image_that_is_two_things,
    _a_bomb,
    _an_image_with_a_bomb_in_its_notes,
    _noise,
    _an_image_of_no_kind,
    _a_parquet_with_damage,
    _a_tiff_of_many_tags,
    _a_table_of_labels_that_lies,
    _an_image_of_many_pixels,
)
