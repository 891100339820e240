"""What webhooks hear of. More is added here by name; `data` grows, and loses nothing."""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any


class Event(StrEnum):
    RANKING_COMPLETED = "ranking.completed"  # some of its models may have failed
    RANKING_FAILED = "ranking.failed"
    RANKING_CANCELLED = "ranking.cancelled"  # removed before it had ended
    RECOMMENDATION_CHANGED = "recommendation.changed"  # a prescore found other models to be the first
    DATASET_SEALED = "dataset.sealed"
    DATASET_REFUSED = "dataset.refused"


PING = "webhook.ping"  # sent when asked for, whatever a webhook listens to


def body_of(event: str, data: Mapping[str, Any], at: datetime, /) -> str:
    said = {"type": event, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": dict(data)}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))
