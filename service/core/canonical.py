"""One spelling of a JSON value, so that its hash identifies it."""

import hashlib
import json


def canonical_json(value: object, /) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_sha256(value: object, /) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
