"""What an estimator raises."""


class EstimatorError(Exception):
    """Base of everything raised by `estimators`."""


class InvalidInput(EstimatorError):
    """The arguments are not what the estimator takes (wrong shape, NaN, unknown option, unsupported task)."""


class Degenerate(EstimatorError):
    """The value is not defined on this input; the message is the reason. A number is never invented in its place."""
