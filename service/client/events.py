"""Server-sent events of a ranking, apart from how their lines are read."""

from collections.abc import Mapping

from pydantic import TypeAdapter

from service.client.results import RankingStatus

_STATUS = TypeAdapter(RankingStatus)
AGAIN_SECONDS = 0.3


class Events:
    """Reads lines; a stream that is taken up again goes on after what was heard."""

    def __init__(self, ranking: str) -> None:
        self.path = f"/v1/rankings/{ranking}/events"
        self.ended = False
        self._last: str | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})

    def read(self, line: str, /) -> RankingStatus | None:
        name, _, value = line.partition(": ")
        if name == "id":
            self._last = value
        if name != "data":
            return None
        status = _STATUS.validate_json(value)
        self.ended = status.ended
        return status
