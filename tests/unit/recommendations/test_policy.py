"""Order, constraints, ties in words, chances and the front."""

import pytest

from service.recommendations.model import Constraints, Driver, EvidenceOf, ExpectedOf, PriorOf
from service.recommendations.policy import Candidate, ordered, ties_in_words


def candidate(name: str, score: float | None, **more: object) -> Candidate:
    seen = score is not None and EvidenceOf(
        estimator="logme", value=score, stderr=0.1, deviations=None, probability_best=None
    )
    facts: dict[str, object] = {
        "model": name,
        "model_id": f"id-{name}",
        "params": 10,
        "input_size": 224,
        "milliseconds": 5.0,
        "licence": "mit",
        "evidence": seen or None,
        "prior": None,
    }
    return Candidate(**(facts | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Constraints(max_params=9), "10 parameters, more than 9"),
        (Constraints(max_input_size=200), "224 pixels of input, more than 200"),
        (Constraints(max_milliseconds=4.5), "5 ms an image, more than 4.5"),
        (Constraints(max_weights_bytes=39), "40 bytes of weights, more than 39"),
        (Constraints(licence="apache-2.0"), "its licence is mit"),
    ],
)
def test_constraints_leave_out_and_say_why(wanted: Constraints, reason: str) -> None:
    kept, excluded = ordered([candidate("a", 1.0)], wanted)
    assert kept == []
    assert [(e.model, e.reason) for e in excluded] == [("a", reason)]


def test_texts_are_not_called_images() -> None:
    _, excluded = ordered([candidate("a", 1.0)], Constraints(max_milliseconds=4.5), of="text")
    assert excluded[0].reason == "5 ms a text, more than 4.5"
    kept, _ = ordered([candidate("a", 3.0, tied_with=("b",)), candidate("b", 2.9)], Constraints())
    assert ties_in_words(kept, of="text") == "The first two cannot be told apart on these texts."


def test_what_is_not_known_meets_no_constraint() -> None:
    _, excluded = ordered([candidate("a", 1.0, milliseconds=None)], Constraints(max_milliseconds=9))
    assert excluded[0].reason == "its ms an image are not known"


def test_evidence_orders_and_the_unscored_come_last_without_a_rank() -> None:
    before = PriorOf(basis="record", value=9.0, stderr=1.0, accuracy=None, interval=None)
    kept, _ = ordered([candidate("a", 1.0), candidate("b", 2.0), candidate("c", None, prior=before)], Constraints())
    assert [(e.model, e.rank) for e in kept] == [("b", 1), ("a", 2), ("c", None)]
    kept, _ = ordered([candidate("a", 1.0), candidate("b", 2.0)], Constraints(), larger_is_better=False)
    assert [e.model for e in kept] == ["a", "b"]


def test_without_evidence_the_prior_orders() -> None:
    def before(value: float) -> PriorOf:
        return PriorOf(basis="record", value=value, stderr=1.0, accuracy=None, interval=None)

    kept, _ = ordered([candidate("a", None, prior=before(-1)), candidate("b", None, prior=before(1))], Constraints())
    assert [(e.model, e.rank) for e in kept] == [("b", 1), ("a", 2)]


def test_the_front_holds_what_nothing_beats_in_all() -> None:
    kept, _ = ordered(
        [
            candidate("best", 3.0, params=100, milliseconds=50.0),
            candidate("small", 2.0, params=10),
            candidate("worse", 1.0, params=20),
            candidate("fast", 0.5, params=30, milliseconds=1.0),
        ],
        Constraints(),
    )
    assert {e.model for e in kept if e.on_front} == {"best", "small", "fast"}


def test_chances_are_of_the_joint_draw() -> None:
    """Two scores that move together are told apart by what they differ in, however much both move."""
    shared = tuple(x / 10 for x in range(10))
    kept, _ = ordered(
        [
            candidate("a", 1.1, replicates=shared),
            candidate("b", 1.0, replicates=shared),
            candidate("c", 0.0, replicates=shared),
        ],
        Constraints(),
    )
    assert [e.evidence.probability_best for e in kept if e.evidence] == [1.0, 0.0, 0.0]
    apart = tuple(-x for x in shared)
    kept, _ = ordered([candidate("a", 1.0, replicates=shared), candidate("b", 1.0, replicates=apart)], Constraints())
    assert [round(e.evidence.probability_best or 0, 1) for e in kept if e.evidence] == [0.5, 0.5]


def test_ties_in_words_name_the_smallest() -> None:
    kept, _ = ordered(
        [
            candidate("a", 3.0, params=60, tied_with=("b", "c")),
            candidate("b", 2.9, params=10, tied_with=("a",)),
            candidate("c", 2.8, params=30, tied_with=("a",)),
            candidate("d", 1.0),
        ],
        Constraints(),
    )
    assert ties_in_words(kept) == (
        "The first three cannot be told apart on these images; b is 6 × smaller than the first."
    )
    assert ties_in_words(kept[3:]) is None


def test_what_is_foretold_goes_before_a_score() -> None:
    told = ExpectedOf(
        accuracy=0.9,
        interval=(0.8, 0.95),
        probability_best=0.7,
        drivers=(Driver(name="knn", points=2.5),),
        measured=0.91,
    )
    kept, _ = ordered(
        [candidate("a", 9.0, merit=0.1), candidate("b", 1.0, merit=2.2, expected=told), candidate("c", 5.0)],
        Constraints(),
    )
    assert [(e.model, e.rank) for e in kept] == [("b", 1), ("a", 2), ("c", None)]
    assert kept[0].why.startswith("90.0% expected (80.0% to 95.0%); against the mean candidate, in points: knn +2.5")
    assert "91.0% measured here" in kept[0].why
    assert [e.on_front for e in kept] == [True, False, False]
