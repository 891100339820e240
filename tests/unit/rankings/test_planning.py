"""Groups of models, the split that is scored, the order and its ties."""

from random import Random

from estimators.catalog import Direction
from estimators.compare import difference_stderr
from estimators.score import Score
from service.rankings.ordering import TIE_Z, order
from service.rankings.planner import Candidate, group, split_to_score


def test_models_of_one_signature_stand_together_and_the_cheapest_come_first() -> None:
    candidates = [
        Candidate("big", "224", 90),
        Candidate("small", "224", 10),
        Candidate("unknown", "224", None),
        Candidate("other", "384", 5),
    ]
    assert group(candidates, models_per_task=8) == [["other", "small", "big", "unknown"]]
    assert group(candidates, models_per_task=2) == [["other", "small"], ["big", "unknown"]]
    assert group([], models_per_task=2) == []


def test_no_worker_is_left_without_a_task() -> None:
    candidates = [Candidate(str(number), "224", number) for number in range(5)]
    assert [len(ids) for ids in group(candidates, models_per_task=8, workers=2)] == [3, 2]
    assert [len(ids) for ids in group(candidates, models_per_task=8, workers=9)] == [1] * 5
    assert [len(ids) for ids in group(candidates, models_per_task=2, workers=0)] == [2, 2, 1]


def test_the_training_split_is_scored_where_there_is_one() -> None:
    assert split_to_score({"test", "train"}) == "train"
    assert split_to_score({"test", "validation"}) == "validation"
    assert split_to_score({"test"}) == "test"


def score(value: float, *replicates: float) -> Score:
    return Score(value=value, stderr=0.1, replicates=replicates)


def test_ties_come_from_paired_differences_and_not_from_overlapping_errors() -> None:
    # a and b move together from block to block: their difference is sure although neither value is. c is noisy by
    # itself: it cannot be told from either, although b stands between it and a.
    scores = {
        "a": score(1.0, 0.8, 1.0, 1.2),
        "b": score(0.9, 0.7, 0.9, 1.1),
        "c": score(0.89, 1.0, 0.9, 0.77),
        "d": None,
    }
    placed = order(scores, direction=Direction.HIGHER_IS_BETTER)
    assert [(p.model_id, p.rank) for p in placed] == [("a", 1), ("b", 2), ("c", 3), ("d", None)]
    assert [p.tied_with for p in placed] == [("c",), ("c",), ("a", "b"), ()]


def test_scores_of_other_blocks_are_compared_as_if_independent() -> None:
    scores = {"a": score(1.0, 0.8, 1.0, 1.2), "b": score(0.9), "far": score(-1.0)}
    placed = order(scores, direction=Direction.HIGHER_IS_BETTER)
    assert [p.tied_with for p in placed] == [("b",), ("a",), ()]


def test_all_pairs_agree_with_the_paired_difference() -> None:
    draw = Random(0)
    scores = {str(i): score(draw.gauss(0, 0.3), *[draw.gauss(0, 0.1) for _ in range(10)]) for i in range(30)}
    placed = order(scores, direction=Direction.HIGHER_IS_BETTER)
    for place in placed:
        for other in placed:
            if place is not other:
                a, b = scores[place.model_id], scores[other.model_id]
                error = difference_stderr(a, b)
                assert error is not None
                assert (other.model_id in place.tied_with) == (abs(a.value - b.value) <= TIE_Z * error)


def test_a_distance_is_ordered_from_below() -> None:
    placed = order({"far": score(3.0), "near": score(1.0)}, direction=Direction.LOWER_IS_BETTER)
    assert [p.model_id for p in placed] == ["near", "far"]
