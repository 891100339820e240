"""What is known of a model before any outcome: the project's own word before what is published."""

from service.models.repository import Brief
from service.recommendations.priors import _card


def brief(*, params: int | None = None, trained: str | None = None, top1: float | None = None) -> Brief:
    return Brief("mdl_1", "resnet50.tv_in1k", params, 2048, 224, None, trained, top1)


def test_what_the_project_says_comes_before_what_is_published() -> None:
    assert _card("resnet50.tv_in1k", None) == (23_508_032, 0.7613, "ImageNet-1k")
    assert _card("resnet50.tv_in1k", brief()) == (23_508_032, 0.7613, "ImageNet-1k")
    assert _card("resnet50.tv_in1k", brief(params=5, trained="birds", top1=0.5)) == (5, 0.5, "birds")


def test_no_parameters_are_none_known() -> None:
    assert _card("own", brief(params=0)) == (None, None, "")
