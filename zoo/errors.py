"""What can go wrong between a card and its features: one small tree that knows nothing of HTTP."""

from collections.abc import Sequence


class ZooError(Exception):
    """Base of every error that `zoo` raises on purpose. Its text is fit for users."""


class BadCard(ZooError):
    """A card, a weights reference or a preprocessing configuration contradicts itself or the grammar."""


class UnknownArchitecture(ZooError):
    """The installed library knows no architecture of this name, or refuses its arguments."""

    def __init__(self, architecture: str, /, *, library: str, reason: str | None = None) -> None:
        self.architecture = architecture
        self.library = library
        self.reason = reason
        super().__init__(f"{library} cannot build {architecture!r}: {reason or 'no such architecture'}")


class WeightsNotFound(ZooError):
    """The reference is well formed, but nothing lies where it points."""

    def __init__(self, uri: str, /, *, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(f"no weights at {uri}: {reason}")


class HubUnreachable(ZooError):
    """The weights are not cached and the place they come from cannot be asked now. Worth another try later."""

    def __init__(self, uri: str, /, *, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(f"cannot fetch {uri}: {reason}")


class HashMismatch(ZooError):
    """The fetched bytes are not the ones the card pins."""

    def __init__(self, uri: str, /, *, expected: str, actual: str) -> None:
        self.uri = uri
        self.expected = expected
        self.actual = actual
        super().__init__(f"{uri} has sha256 {actual}, but the card pins {expected}")


class UnsafeCheckpoint(ZooError):
    """The file is no plain table of tensors: reading it could run code, so it is not read."""


class CorruptCheckpoint(ZooError):
    """The file claims to be a checkpoint, but it is truncated or damaged."""


class WeightsMismatch(ZooError):
    """The tensors do not fit the architecture. Names the first keys of each kind."""

    def __init__(
        self,
        architecture: str,
        /,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        shapes: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        self.architecture = architecture
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.shapes = tuple(shapes)
        self.reason = reason
        parts = [reason] if reason else []
        parts += [
            f"{len(keys)} {word} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for word, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", self.shapes),
            )
            if keys
        ]
        super().__init__(f"the weights do not fit {architecture}: {'; '.join(parts)}")


class BadImage(ZooError):
    """The bytes are no image that can be decoded within the caps."""


class ExtractionFailed(ZooError):
    """The model ran and gave no usable features."""

    def __init__(self, model: str, /, *, reason: str) -> None:
        self.model = model
        self.reason = reason
        super().__init__(f"{model} gave no usable features: {reason}")
