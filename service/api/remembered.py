"""Answers to reads, kept in memory and given again as long as nothing was committed to the database meanwhile.

To make a page of models or a ranking's entries takes many times as long as to ask the database whether it has changed.
An answer is never out of date: before each one the database is asked.
"""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

MAX_BYTES = 32 << 20
Key = tuple[str, str, bytes]  # project, path, query


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    tag: str


def tag_of(body: bytes, /) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


class Answers:
    """The answers asked for last, as many as fit."""

    def __init__(self, max_bytes: int = MAX_BYTES, /) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._answers: OrderedDict[Key, tuple[str, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, stamp: str, /) -> Answer | None:
        with self._lock:
            made_at, answer = self._answers.get(key, ("", None))
            if made_at != stamp:
                return None
            self._answers.move_to_end(key)
            return answer

    def put(self, key: Key, stamp: str, answer: Answer, /) -> None:
        """`stamp` is the database's from before the answer was made, so that a commit in between counts."""
        size = len(answer.body)
        if size > self._max_bytes // 4:
            return
        with self._lock:
            _, before = self._answers.pop(key, ("", None))
            self._held += size - (len(before.body) if before else 0)
            self._answers[key] = stamp, answer
            while self._held > self._max_bytes:
                _, (_, oldest) = self._answers.popitem(last=False)
                self._held -= len(oldest.body)
