"""Mutated archives: a sealed dataset or a refusal, never another error, and never a leftover file."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.blobs.store import BlobStore
from service.datasets.admission import admit_archive
from service.datasets.errors import DatasetRefused
from service.datasets.ingest import ingest
from service.datasets.limits import Limits
from tests.data.archives import GOOD, tar_bytes, zip_bytes
from tests.data.pictures import picture

LIMITS = Limits(max_unpacked_bytes=64 << 20, max_entries=1000, max_image_pixels=1_000_000, max_image_bytes=8 << 20)


def _parquet() -> bytes:
    table = pa.table({"image": [{"bytes": picture(n), "path": ""} for n in range(4)], "label": [0, 1, 0, 1]})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


CSV = b"path,label,split\n" + b"".join(f"{path},{path[:3]},train\n".encode() for path in GOOD)
SEEDS = {
    "zip": zip_bytes(GOOD),
    "zip with csv": zip_bytes({"labels.csv": CSV, **GOOD}),
    "tar": tar_bytes({**GOOD, f"cat/{'long' * 60}.png": picture(4)}),
    "tar.gz": gzip.compress(tar_bytes(GOOD)),
    "parquet": _parquet(),
}
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["set", "cut", "insert", "truncate", "from the end"]),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def mutated(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for where, kind, value in edits:
        at = int(where * len(data))
        match kind:
            case "set":
                data = data[:at] + value + data[at + len(value) :]
            case "from the end":  # the directory of a zip and the footer of a Parquet file lie there
                at = max(0, len(data) - int(where * 300))
                data = data[:at] + value + data[at + len(value) :]
            case "cut":
                data = data[:at] + data[at + len(value) :]
            case "insert":
                data = data[:at] + value + data[at:]
            case _:
                data = data[: max(at, len(data) // 2)]
    return data


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.sampled_from(sorted(SEEDS)), edits=EDITS)
def test_mutated_archives(seed, edits, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(mutated(SEEDS[seed], edits))
    store = BlobStore(tmp_path / "blobs")
    try:
        admit_archive(path, LIMITS)
        inspected = True
    except DatasetRefused:
        inspected = False
    try:
        result = ingest(path, store=store, project="p", limits=LIMITS, threads=1)
    except DatasetRefused:
        expected = set()
    else:
        assert inspected, "the worker took what inspection refused"
        expected = {row.content_hash.hex() for row in result.manifest.rows()}
        assert result.report.images == len(result.manifest) > 1
    left = [file for file in store.root.rglob("*") if file.is_file()]
    assert {file.name for file in left} == expected
    for file in left:
        file.unlink()
