"""What the package brings. Imports nothing heavy: the API reads this, and has no torch."""

from estimators.catalog import EstimatorSpec, Need
from service.datasets.sources import FormatSpec
from zoo.catalog import SourceSpec

ETA_SQUARED = EstimatorSpec(
    name="eta_squared",
    version=1,
    title="Eta squared",
    entrypoint="toy_zooscout.estimator:eta_squared",
    needs=frozenset({Need.FEATURES}),
    states_error=False,
    reference="Fisher, Statistical Methods for Research Workers, 1925",
    summary="Share of the features' variance that lies between classes",
)
TOYBOX = SourceSpec(
    name="toybox",
    library="timm",
    entrypoint="toy_zooscout.source:cards",
    description="The checkpoints in the folder that TOYBOX names",
)
TOYSET = FormatSpec(
    name="toyset",
    magic=(b"TOYSET1\n",),
    entrypoint="toy_zooscout.format:open_toyset",
    description="Images one after the other, each after a line with its path and size",
)
