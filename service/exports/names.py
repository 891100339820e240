"""What an export can be; the API and the command line name it without loading what writes it."""

from typing import Literal

Format = Literal["parquet", "npz"]
MEDIA_TYPES: dict[Format, str] = {"parquet": "application/vnd.apache.parquet", "npz": "application/zip"}
