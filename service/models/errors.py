from service.core.errors import Conflict, InvalidRequest


class ModelExists(Conflict):
    """Another model of the project bears this name."""


class ModelInUse(Conflict):
    """A ranking that has not ended still needs the model."""


class BadModelCard(InvalidRequest):
    """The card contradicts itself."""
