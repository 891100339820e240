from service.core.errors import ServiceError


class EmbeddingsMissing(ServiceError):
    """Embeddings that a reader needs are not in the store."""


class SegmentDamaged(ServiceError):
    """A segment's file is gone, truncated, or not the one that was registered."""


class StoreUnreachable(ServiceError):
    """The place where segments lie does not answer, or refuses."""
