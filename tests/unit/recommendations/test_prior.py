"""The prior on tables whose truth is known."""

import numpy as np
import pytest

from service.recommendations.forest import weights
from service.recommendations.prior import Cards, predict

RNG = np.random.default_rng(0)


def table(models: int = 60, datasets: int = 6, noise: float = 0.05) -> np.ndarray:
    """Accuracies made of one quality a model, which all datasets share but for noise."""
    rng = np.random.default_rng(1)
    quality = rng.uniform(0.3, 0.9, models)
    return np.clip(quality + noise * rng.standard_normal((datasets, models)), 0, 1)


def names(n: int) -> list[str]:
    return [f"model{i}" for i in range(n)]


def cards(
    *, params: np.ndarray | None = None, imagenet: np.ndarray | None = None, pretrained: list[str] | None = None
) -> Cards:
    n = next(len(given) for given in (params, imagenet, pretrained) if given is not None)
    nothing = np.full(n, np.nan)
    return Cards(
        nothing if params is None else params,
        nothing if imagenet is None else imagenet,
        [""] * n if pretrained is None else pretrained,
    )


def test_weights_are_shares_and_left_out_rows_have_none_of_their_own() -> None:
    features = RNG.uniform(size=(40, 5))
    of_new, left_out = weights(features[:30], features[:30, 0], features[30:], trees=60)
    assert of_new.shape == (10, 30)
    assert np.allclose(of_new.sum(1), 1)
    assert np.allclose(left_out.sum(1), 1)
    assert np.all(np.diag(left_out) == 0)


def test_half_observed_is_foreseen_and_covered() -> None:
    accuracy = table()
    target = accuracy[0].copy()
    target[30:] = np.nan
    found = predict(accuracy[1:], target, names(60))
    assert set(found.basis) == {"target"}
    assert np.corrcoef(found.accuracy[30:], accuracy[0, 30:])[0, 1] > 0.9
    inside = (found.low[30:] <= accuracy[0, 30:]) & (accuracy[0, 30:] <= found.high[30:])
    assert inside.mean() >= 0.8
    assert np.all(found.similarity > 0.8)


def test_what_is_hidden_of_the_target_is_not_looked_at() -> None:
    accuracy = table()
    target = accuracy[0].copy()
    target[30:] = np.nan
    again = predict(accuracy[1:], target.copy(), names(60))
    assert np.array_equal(predict(accuracy[1:], target, names(60)).value, again.value)


def test_a_new_dataset_gets_the_plain_list_where_the_record_is_complete() -> None:
    accuracy = table(12, 5)
    found = predict(accuracy, np.full(12, np.nan), names(12))
    z = ((accuracy - accuracy.mean(1, keepdims=True)) / accuracy.std(1, keepdims=True)).mean(0)
    assert set(found.basis) == {"record"}
    assert np.isnan(found.accuracy).all()
    assert np.argsort(found.value).tolist() == np.argsort(z).tolist()


def test_a_model_never_seen_stands_with_those_of_its_name_and_is_less_sure() -> None:
    called = [f"resnet{i}.good" for i in range(8)] + [f"vgg{i}.bad" for i in range(8)] + ["resnet99.good", "vgg99.bad"]
    rng = np.random.default_rng(2)
    accuracy = np.full((4, 18), np.nan)
    accuracy[:, :8] = rng.uniform(0.8, 0.9, (4, 8))
    accuracy[:, 8:16] = rng.uniform(0.3, 0.4, (4, 8))
    found = predict(accuracy, np.full(18, np.nan), called)
    assert found.basis[16:] == ("names", "names")
    assert found.value[16] > 0 > found.value[17]
    assert found.stderr[16] > found.stderr[:8].max()


@pytest.mark.parametrize("datasets", [0, 1, 3])
def test_nothing_known_gives_no_number(datasets: int) -> None:
    found = predict(np.full((datasets, 4), np.nan), np.full(4, np.nan), names(4))
    assert np.isnan(found.value).all()


def test_one_value_on_the_target_teaches_nothing() -> None:
    accuracy = table(30, 3)
    found = predict(accuracy, np.full(30, 0.5), names(30))
    assert set(found.basis) == {"record"}


def test_models_without_a_record_are_placed_by_size_and_those_with_one_are_not() -> None:
    rng = np.random.default_rng(3)
    size = 10 ** rng.uniform(6, 8, 40)
    quality = 0.5 + 0.1 * (np.log10(size) - 7)
    accuracy = quality + 0.01 * rng.standard_normal((6, 40))
    accuracy[:, 20:] = np.nan
    called = [f"m{i:02d}" for i in range(40)]
    without = predict(accuracy, np.full(40, np.nan), called)
    found = predict(accuracy, np.full(40, np.nan), called, cards=cards(params=size))
    assert np.array_equal(found.value[:20], without.value[:20])
    assert np.corrcoef(found.value[20:], quality[20:])[0, 1] > 0.95
    assert np.all(found.stderr[20:] < without.stderr[20:])
    assert found.basis[20:] == ("names",) * 20


def test_models_without_a_record_are_placed_by_imagenet_accuracy_and_what_they_were_trained_on() -> None:
    rng = np.random.default_rng(4)
    accuracy = np.full((4, 40), np.nan)
    accuracy[:, ::2] = rng.uniform(0.4, 0.6, (4, 20))  # records that say nothing of how steeply it pays
    accuracy[:, ::4] += 0.2
    called, nothing = [f"m{i:02d}" for i in range(40)], np.full(40, np.nan)
    plain = predict(accuracy, nothing, called)
    top1 = rng.uniform(0.6, 0.9, 40)
    by_top1 = predict(accuracy, nothing, called, cards=cards(imagenet=top1)).value
    assert np.array_equal(by_top1[::2], plain.value[::2])
    assert np.corrcoef(by_top1[1::2], top1[1::2])[0, 1] > 0.95
    trained = ["birds" if i % 4 < 2 else "skin lesions" for i in range(40)]
    by_training = predict(accuracy, nothing, called, cards=cards(pretrained=trained)).value
    assert by_training[1::4].min() > by_training[3::4].max() + 0.5


def test_who_lacks_imagenet_accuracy_is_placed_by_those_that_lack_it_too() -> None:
    rng = np.random.default_rng(5)
    top1 = np.where(np.arange(40) < 20, rng.uniform(0.7, 0.8, 40), np.nan)
    accuracy = np.where(np.arange(40) < 20, 0.8, 0.5) + 0.02 * rng.standard_normal((4, 40))
    accuracy[:, 10:30] = np.nan
    found = predict(accuracy, np.full(40, np.nan), [f"m{i:02d}" for i in range(40)], cards=cards(imagenet=top1)).value
    assert found[10:20].min() > 0 > found[20:30].max()


def test_sizes_that_are_unknown_or_all_alike_change_nothing() -> None:
    accuracy = table(12, 5)
    accuracy[:, 9:] = np.nan
    plain = predict(accuracy, np.full(12, np.nan), names(12))
    for sizes in (np.full(12, np.nan), np.full(12, 5e6)):
        found = predict(accuracy, np.full(12, np.nan), names(12), cards=cards(params=sizes))
        assert np.array_equal(found.value, plain.value)
