from service.core.errors import InvalidRequest


class BadOutcomes(InvalidRequest):
    """The CSV holds something that is no outcome; nothing of it is recorded."""
