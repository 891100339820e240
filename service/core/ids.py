"""Identifiers: a prefix that says what it names, then 26 characters that sort by time of making."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, /) -> str:
    """A fresh id such as `ds_01j9…`: 48 bits of milliseconds, then 80 random bits (the ULID layout, lower case)."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))
