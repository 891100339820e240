"""One spelling of a JSON value, so that its hash identifies it."""

import hashlib
import json


def canonical_sha256(value: object, /) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
