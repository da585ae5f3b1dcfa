"""What is fuzzed: a reader, valid bodies from which to start, and what it may say of bad ones."""

import gzip
import io
import json
import math
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import HTTPException

from service.api.formats import arrow, csv, ndjson, negotiation, npy
from service.api.protocols import bodies, infer_requests, invocation_rows, tensorflow_requests
from service.api.rephrasing import Refused
from service.domain import keys, strict_json
from service.domain.errors import InvalidTable, SelfnormError
from service.domain.limits import TableLimits
from service.domain.table_formats import TableFormat
from service.inference import number_bodies
from service.inference.rows import CheckedRows
from service.storage import pages
from service.tables import parquet, reading
from service.tables.importer import import_table
from service.tables.request import ImportRequest
from service.use_cases.serving import Served
from tests.formats import MIXED, NUMBERS, arrow_body, csv_body, ndjson_body, npy_body, served
from tests.unit.uploads import ALLOWANCE

MOST_BYTES = 1 << 20
UPLOAD_FORMATS: tuple[TableFormat, ...] = ("csv", "json", "ndjson", "parquet")
ANSWERS = (SelfnormError, Refused, HTTPException)
"""What the API answers with a 4xx."""
ROWS: list[list[Any]] = [
    [31.5, 70.0, "cook", 2.5, True, False, "31.12.2020"],
    [None, -1e300, None, None, None, None, None],
    [1, 0.1, 'x,"y"', 1, False, True, "01.02.1999"],
]
NAMES = [encoder.name for encoder in MIXED]
MATRIX = [[1.0, 2.5, -3e10], [0.0, 1e-300, 7.0]]
UPLOADED: dict[str, list[Any]] = {
    "n": [1, 2, None, 4, 5.5],
    "t": ["a", "b,c", 'd"e', "", "ü"],
    "d": ["2020-01-31", "2021-02-28", None, "1999-12-31", "2000-02-29"],
    "b": [True, False, None, True, False],
    "i": [2**62, -5, 0, 7, 10**17],
}


@dataclass(frozen=True)
class Target:
    """A reader and what it is given; ``read`` takes the bytes, and raises nothing but what is ``allowed``."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = ANSWERS


@cache
def mixed() -> Served:
    return served(MIXED)


@cache
def numbers() -> Served:
    return served(NUMBERS)


def by_name(rows: list[list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def uploads(form: TableFormat) -> Sequence[bytes]:
    rows = [dict(zip(UPLOADED, cells, strict=True)) for cells in zip(*UPLOADED.values(), strict=True)]
    if form == "json":
        return [json.dumps(rows).encode(), b"[]", b'[{"a":1},{"b":"x"}]']
    if form == "ndjson":
        return [ndjson_body(rows), b'{"a":1}\r\n{"a":null,"b":"x"}']
    if form == "parquet":
        table = pa.table({"n": [1.5, None], "t": ["a", "b"], "l": pa.array(["x", "x"]).dictionary_encode()})
        return [_parquet(table), _parquet(table, compression="zstd"), _parquet(table, use_dictionary=False)]
    columns, cells = list(UPLOADED), [list(row) for row in zip(*UPLOADED.values(), strict=True)]
    plain = csv_body(columns, cells)
    return [
        plain,
        plain.replace(b",", b";"),
        plain.replace(b",", b"\t"),
        b"a;b\n1,5;x\n2,25;y\n",
        b'"a","b"\r\n"1","multi\r\nline"\r\n',
        b"\xef\xbb\xbfa,b\n1,NA\n?,2\n",
        plain * 40,
    ]


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def upload(form: TableFormat) -> Callable[[bytes], object]:
    """Read a file as the import process does; what it stores can be read back, and is as long as it says."""
    allowed = replace(ALLOWANCE, max_decoded_bytes=64 << 20)

    def read(content: bytes) -> None:
        output = io.BytesIO()
        table = reading.read(io.BytesIO(content), output, ImportRequest(form), allowed)
        assert len(output.getvalue()) == table.size_bytes
        rows = parquet.read_rows(output.getvalue(), 0, table.rows + 1)
        assert len(rows) == table.rows
        assert all(list(row) == [column.name for column in table.columns] for row in rows)
        json.dumps(rows, allow_nan=False)

    return read


def read_json(body: bytes) -> None:
    """What is read can be written and read again, and other readers read the same."""
    value = strict_json.loads(body)
    assert strict_json.loads(json.dumps(value).encode()) == value
    assert json.loads(body) == value


def read_numbers(body: bytes) -> None:
    """The quick readers give what the strict one gives, or nothing; and never raise."""
    for quick in (number_bodies.read_rows, number_bodies.read_many_rows):
        if (found := quick(body, "rows")) is None:
            continue
        fields, matrix = found
        value = strict_json.loads(body)
        assert np.array_equal(np.asarray(value.pop("rows"), np.float64), matrix)
        assert {**fields} == value
    if (tensor := number_bodies.read_tensor(body)) is not None:
        value = strict_json.loads(body)
        assert value.get("id") == tensor.id
        given = np.asarray(value["inputs"][0]["data"], np.float64)
        assert given.size == math.prod(value["inputs"][0]["shape"])
        assert np.array_equal(given, tensor.matrix.ravel())


def of_format(read: Callable[[bytes, Served], CheckedRows]) -> Callable[[bytes], None]:
    """Read rows of /predict for a model of numbers and for one of everything; what is taken is finite."""

    def read_both(body: bytes) -> None:
        refused = None
        for model in (mixed(), numbers()):
            try:
                encoded = read(body, model).encoded()
            except ANSWERS as error:
                refused = error
            else:
                assert encoded.shape[1] == len(model.version.inputs.mean)
                assert not np.isnan(encoded).any()
        if refused is not None:
            raise refused

    return read_both


def infer_seeds() -> Sequence[bytes]:
    given = {"name": "x", "shape": [2, 3], "datatype": "FP64", "data": MATRIX}
    raw = np.asarray(MATRIX, "<f8").tobytes()
    binary = {"name": "x", "shape": [2, 3], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
    texts = b"".join(len(word).to_bytes(4, "little") + word for word in (b"cook", b"nurse", "ü".encode()))
    job = {"name": "job", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}}
    asked = {"id": "a", "inputs": [given], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    heads = [(asked, b""), ({"inputs": [binary]}, raw), ({"inputs": [job]}, texts)]
    return [_headed(json.dumps(head).encode(), rest) for head, rest in heads] + [_headed(b"", raw)]


def _headed(head: bytes, rest: bytes) -> bytes:
    """Put the length of the JSON, which comes in a header, in front."""
    return len(head).to_bytes(4, "little") + head + rest


def read_infer(content: bytes) -> None:
    length, body = int.from_bytes(content[:4], "little"), content[4:]
    refused = None
    for model, header in ((numbers(), length), (mixed(), length), (numbers(), None)):
        try:
            if header is None or header <= len(body):
                infer_requests.read_request(model, body, header, MOST_BYTES).rows.encoded()
        except ANSWERS as error:
            refused = error
    if refused is not None:
        raise refused


def tensorflow_seeds() -> Sequence[bytes]:
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
    documents = (
        {"signature_name": "", "instances": MATRIX},
        {"inputs": MATRIX},
        {"inputs": columns},
        {"instances": by_name(ROWS)},
        {"context": {"a": 1.0}, "examples": [{"b": 1.0, "c": 2.0}]},
        {"instances": [{"job": {"b64": "Y29vaw=="}}]},
    )
    return [json.dumps(document).encode() for document in documents]


def read_tensorflow(body: bytes) -> None:
    for model in (numbers(), mixed()):
        for read in (tensorflow_requests.read_predict, partial(tensorflow_requests.read_examples, method="regress")):
            try:
                read(model, body, MOST_BYTES)
            except ANSWERS:
                continue


def invocation_seeds() -> Sequence[bytes]:
    split = {"columns": NAMES, "data": ROWS}
    documents = ({"dataframe_split": split}, {"dataframe_records": by_name(ROWS)}, {"inputs": MATRIX, "params": {}})
    texts = [json.dumps(document).encode() for document in (*documents, {"instances": MATRIX})]
    return [b"application/json\n" + text for text in texts] + [
        b"text/csv\n" + csv_body(NAMES, ROWS),
        b"text/csv; header=present; charset=utf-8\n" + csv_body(["a", "b", "c"], MATRIX),
    ]


def read_invocation(content: bytes) -> None:
    kind, _, body = content.partition(b"\n")
    content_type = invocation_rows.read_content_type(kind.decode("latin-1"))
    for model in (numbers(), mixed()):
        try:
            invocation_rows.read_rows(model, body, content_type, MOST_BYTES)
        except ANSWERS:
            continue


def read_packed(content: bytes) -> None:
    """Nothing that is unpacked becomes larger than it may."""
    for encoding in ("gzip", "deflate"):
        try:
            assert len(bodies.unpacked(content, encoding, MOST_BYTES)) <= MOST_BYTES
        except ANSWERS:
            continue


def read_headers(content: bytes) -> None:
    """Every header is read or refused, and reading one changes nothing else."""
    text = content.decode("latin-1")
    for read in (
        negotiation.body_type,
        negotiation.check_encoding,
        negotiation.answer_type,
        bodies.accepted_encoding,
        invocation_rows.read_content_type,
        lambda token: pages.offset(pages.PageRequest(10, token)),
        keys.KEY_PATTERN.fullmatch,
    ):
        try:
            read(text)
        except ANSWERS:
            continue


HEADERS = (
    b"text/csv; header=present; charset=utf-8",
    b"application/json;q=0.5, text/csv;q=0.9, */*;q=0.1",
    b'application/vnd.apache.arrow.stream; a="b;c"',
    b"gzip, deflate;q=0.5, *;q=0",
    pages.offset_token(1000).encode(),
    b"sn_0123456789abcdef_" + b"A" * 43,
)
MATRICES = [npy_body(np.asarray(MATRIX)), npy_body(np.asarray(MATRIX, "<f4")), npy_body(np.asarray(MATRIX, order="F"))]
NUMBER_BODIES = [
    json.dumps({"rows": MATRIX, "model": "m", "version": 1}).encode(),
    json.dumps({"rows": MATRIX}, separators=(",", ":")).encode(),
    json.dumps(
        {"id": "a", "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [*MATRIX[0], *MATRIX[1]]}]}
    ).encode(),
]
JSON = [*NUMBER_BODIES, b'{"a": {"b": [1, 2.5e10, null, true, "x\\u00e9\\n"]}, "c": []}', b'"text"', b"[[[[1]]]]"]


def arrow_seeds() -> Sequence[bytes]:
    columns = {name: pa.array([row[place] for row in ROWS]) for place, name in enumerate(NAMES)}
    table = pa.table({name: [row[place] for row in MATRIX] for place, name in enumerate("abc")})
    coded = pa.table({**columns, "job": columns["job"].dictionary_encode()})
    return [arrow_body(columns), arrow_body(table, 1), arrow_body(coded), arrow_body(table, compression="zstd")]


def read_apart(content: bytes) -> None:
    """Have a file read by the process that reads uploads; the first byte says as what."""
    form: TableFormat = UPLOAD_FORMATS[content[0] % len(UPLOAD_FORMATS)] if content else "csv"
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
        source.write(content[1:])
        source.flush()
        import_table(cast("BinaryIO", source), cast("BinaryIO", output), ImportRequest(form), TableLimits())


TARGETS = (
    *(
        Target(f"upload-{form}", lambda form=form: uploads(form), upload(form), (InvalidTable,))  # type: ignore[misc]  # mypy has no type for such a default
        for form in UPLOAD_FORMATS
    ),
    Target(
        "import-process",
        lambda: [bytes([place]) + body for place, form in enumerate(UPLOAD_FORMATS) for body in uploads(form)],
        read_apart,
        (InvalidTable,),
    ),
    Target("strict-json", lambda: JSON, read_json),
    Target("number-bodies", lambda: NUMBER_BODIES, read_numbers, ()),
    Target("predict-csv", lambda: [csv_body(NAMES, ROWS), csv_body(list("abc"), MATRIX)], of_format(csv.read)),
    Target(
        "predict-ndjson",
        lambda: [ndjson_body(ROWS), ndjson_body(by_name(ROWS)), ndjson_body(MATRIX)],
        of_format(ndjson.read),
    ),
    Target("predict-npy", lambda: MATRICES, of_format(npy.read)),
    Target("predict-arrow", arrow_seeds, of_format(arrow.read)),
    Target("open-inference", infer_seeds, read_infer),
    Target("tensorflow-serving", tensorflow_seeds, read_tensorflow),
    Target("invocations", invocation_seeds, read_invocation),
    Target("compressed", lambda: [gzip.compress(b"x" * 3_000_000), zlib.compress(b"{}"), b"\x00"], read_packed),
    Target("headers", lambda: HEADERS, read_headers),
)
