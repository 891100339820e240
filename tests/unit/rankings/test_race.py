"""Who goes on in a race: properties of the decision, and of the samples it is made on."""

import numpy as np
import pytest

from service.core.budget import Budget, budget_from
from service.core.errors import InvalidRequest
from service.rankings.race import MOST_LIKELY, TOP_K, Likely, Standing, in_turn, judge, probabilities, rungs
from service.rankings.sampling import sample

FULL = 2_000


def field(seed: int, n: int = 12, *, noise: float = 0.05, drift: float = 0.0) -> list[Standing]:
    """Candidates whose scores are known from ten blocks, and a rung before this one."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    moved = drift * rng.normal(size=n)
    return [
        Standing(
            model_id=f"m{i}",
            value=truth[i],
            replicates=tuple(truth[i] + noise / 3 * rng.normal(size=10)),
            before=truth[i] - moved[i],
        )
        for i in range(n)
    ]


def test_races_keep_to_the_rules() -> None:
    for seed in range(30):
        standings = field(seed, n=4 + seed % 12, noise=10.0 ** -(seed % 4), drift=0.1 * (seed % 3))
        verdict = judge(standings, sample=256, before=128, images=FULL)
        chances = dict(verdict.kept) | dict(verdict.dropped)
        assert chances.keys() == {s.model_id for s in standings}
        assert sum(chances.values()) == pytest.approx(TOP_K, abs=1e-9)
        assert all(chance <= MOST_LIKELY for _, chance in verdict.dropped)
        first = sorted(standings, key=lambda s: -s.value)[:TOP_K]
        assert {s.model_id for s in first} <= dict(verdict.kept).keys()
        assert [c for _, c in verdict.kept] == sorted((c for _, c in verdict.kept), reverse=True)
        again = judge(standings[::-1], sample=256, before=128, images=FULL)
        assert again == verdict
        moved = [
            Standing(
                model_id=s.model_id,
                value=3 * s.value + 7,
                replicates=tuple(3 * r + 7 for r in s.replicates),
                before=None if s.before is None else 3 * s.before + 7,
            )
            for s in standings
        ]
        shifted = judge(moved, sample=256, before=128, images=FULL)
        assert dict(shifted.dropped).keys() == dict(verdict.dropped).keys()


def test_a_better_score_is_never_a_smaller_chance() -> None:
    standings = field(3, noise=0.5)
    before = probabilities(standings, sample=256, before=128, images=FULL, k=TOP_K)
    for number, standing in enumerate(standings):
        up = Standing(
            model_id=standing.model_id,
            value=standing.value + 0.5,
            replicates=tuple(r + 0.5 for r in standing.replicates),
            before=None if standing.before is None else standing.before + 0.5,
        )
        raised = [*standings[:number], up, *standings[number + 1 :]]
        after = probabilities(raised, sample=256, before=128, images=FULL, k=TOP_K)
        assert after[standing.model_id] >= before[standing.model_id]


def test_on_all_images_the_order_is_certain_and_on_the_first_rung_nobody_is_dropped() -> None:
    standings = field(5)
    last = judge(standings, sample=FULL, before=1_000, images=FULL)
    assert last.dropped == ()
    assert {m for m, p in last.kept if p == 1} == {
        s.model_id for s in sorted(standings, key=lambda s: -s.value)[:TOP_K]
    }
    assert {p for _, p in last.kept} == {0.0, 1.0}
    assert judge(standings, sample=128, before=None, images=FULL).dropped == ()
    assert judge(standings[:3], sample=256, before=128, images=FULL).dropped == ()


def test_who_is_dropped_enters_as_seldom_as_is_stated() -> None:
    """Scores that are means over images: what is said of the whole is held against the whole."""
    rng = np.random.default_rng(8)
    dropped = entered = 0
    stated = 0.0
    for _ in range(80):
        of_images = rng.normal(size=(FULL, 12)) + 0.06 * rng.normal(size=12) + rng.normal(size=(FULL, 1))
        whole = of_images.mean(axis=0)
        best = set(np.argsort(-whole)[:TOP_K])
        part, half = of_images[:400], of_images[:200]
        blocks = np.arange(400) % 10
        standings = [
            Standing(
                model_id=f"{i:02d}",
                value=part[:, i].mean(),
                replicates=tuple(part[blocks != b, i].mean() for b in range(10)),
                before=half[:, i].mean(),
            )
            for i in range(12)
        ]
        verdict = judge(standings, sample=400, before=200, images=FULL)
        dropped += len(verdict.dropped)
        entered += sum(int(model) in best for model, _ in verdict.dropped)
        stated += sum(chance for _, chance in verdict.dropped)
    assert dropped > 150
    assert entered <= MOST_LIKELY * dropped
    assert entered <= 2 * stated + 3


def test_samples_are_nested_and_hold_every_class() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(20, size=FULL, p=np.arange(1, 21) / 210)
    taken: set[int] = set()
    for size in (60, 100, 333, 1_000, FULL):
        found = sample(labels, size)
        assert len(found) == size
        assert list(found) == sorted(found)
        assert taken <= set(found.tolist())
        taken = set(found.tolist())
        counts = np.bincount(labels[found], minlength=20)
        assert counts.min() >= min(2, np.bincount(labels).min())
        if size >= 333:
            assert np.abs(counts - size * np.bincount(labels) / FULL).max() <= 2


def test_the_cheapest_and_likeliest_go_first() -> None:
    assert in_turn({"a": None, "b": 2.0, "c": 4.0}, {}, k=1) == ["b", "a", "c"]
    costs: dict[str, float | None] = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
    alike = {ident: Likely(0.0, 1.0) for ident in costs}
    assert in_turn(costs, alike, k=1) == ["a", "b", "c", "d"]
    assert in_turn(costs, alike | {"c": Likely(9.0, 1.0)}, k=1)[0] == "c"  # four times as dear, and surely the best
    assert in_turn(costs, alike | {"c": Likely(0.2, 1.0)}, k=1)[0] == "a"  # hardly more likely
    assert in_turn(costs, alike | {"a": Likely(-9.0, 1.0)}, k=1)[:2] == ["b", "c"]
    assert in_turn(costs, {"c": Likely(9.0, None)}, k=4) == ["a", "b", "c", "d"]  # all are wanted
    assert in_turn({}, {}) == []


def test_rungs_double_up_to_all_images() -> None:
    assert rungs(2_500, 10) == [96, 192, 384, 768, 2_500]
    assert rungs(150, 10) == [150]
    assert rungs(4_000, 100)[0] == 400


def test_a_budget_is_read_as_it_is_written() -> None:
    assert budget_from("10m") == Budget(seconds=600.0)
    assert budget_from("5000img") == Budget(images=5_000)
    for wrong in ("", "0s", "1.5h", "10", "m", "5000 images"):
        with pytest.raises(InvalidRequest):
            budget_from(wrong)
