"""The formats that tables come in, and the endings of file names that tell them."""

from typing import Literal

TableFormat = Literal["csv", "parquet", "ndjson", "json"]
SUFFIXES: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
}
