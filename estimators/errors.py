"""What an estimator raises."""


class EstimatorError(Exception):
    """Base of everything raised by `estimators`."""


class InvalidInput(EstimatorError):  # noqa: N818 - named for what it says, as the glossary has it
    """The arguments are not what the estimator takes (wrong shape, NaN, unknown option, unsupported task)."""


class Degenerate(EstimatorError):  # noqa: N818
    """The value is not defined on this input; the message is the reason. A number is never invented in its place."""
