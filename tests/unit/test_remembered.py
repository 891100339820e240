"""Answers kept in memory: never another stamp's, and no more bytes than allowed."""

from service.api.remembered import Answer, Answers


def test_an_answer_is_given_again_only_at_its_stamp() -> None:
    answers, key = Answers(), ("p", "/v1/models", b"")
    answers.put(key, "1", Answer(b"{}", "tag"))
    assert answers.get(key, "1") == Answer(b"{}", "tag")
    assert answers.get(key, "2") is None
    assert answers.get(("other", "/v1/models", b""), "1") is None


def test_the_answers_asked_for_longest_ago_make_room() -> None:
    answers = Answers(40)
    for name in "abcd":
        answers.put((name, "", b""), "1", Answer(bytes(10), name))
    assert answers.get(("a", "", b""), "1") is not None
    answers.put(("e", "", b""), "1", Answer(bytes(10), "e"))
    assert [name for name in "abcde" if answers.get((name, "", b""), "1")] == ["a", "c", "d", "e"]
    answers.put(("f", "", b""), "1", Answer(bytes(11), "f"))
    assert answers.get(("f", "", b""), "1") is None
