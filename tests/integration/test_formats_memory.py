"""What a request in another format than JSON may cost: a process of its own reads it, and is asked how it has grown."""

import subprocess
import sys

import pytest

from tests.processes import linux_only

MOST_MB = 200

LARGE = {
    "npy": "npy.read, npy_body(rng.random((10_000, 784))), NUMBERS",
    "npy of float16": "npy.read, npy_body(rng.random((10_000, 784)).astype('f2')), NUMBERS",
    "npy of int8": "npy.read, npy_body(rng.integers(0, 99, (10_000, 784)).astype('i1')), NUMBERS",
    "arrow": "arrow.read, arrow_body({f'x{at}': rng.random(10_000) for at in range(784)}), NUMBERS",
    "arrow in batches with gaps": (
        "arrow.read, arrow_body({f'x{at}': pa.array([None, *[1.0] * 9_999]) for at in range(784)}, 500), GAPPED"
    ),
    "arrow, compressed": (
        "arrow.read, arrow_body({f'x{at}': rng.integers(0, 99, 10_000).astype('f8') for at in range(784)},"
        " compression='zstd'), NUMBERS"
    ),
    "csv": "csv.read, NAMES + (b','.join([b'0.123456'] * 784) + b'\\n') * 9_000, NUMBERS",
    "csv of texts": (
        "csv.read, b','.join(b'k%d' % at for at in range(40)) + b'\\n'"
        " + (b','.join(b'text%d' % at for at in range(40)) + b'\\n') * 100_000, TEXTS"
    ),
    "ndjson": "ndjson.read, (b'[' + b','.join([b'1'] * 784) + b']\\n') * 5_300, NUMBERS",
}
BOMBS = {
    "arrow, compressed": "arrow.read, arrow_body({'k0': ['a' * 500_000_000]}, compression='zstd'), TEXTS",
    "arrow of nothing": "arrow.read, arrow_body({f'x{at}': pa.nulls(10**9) for at in range(784)}), GAPPED",
    "one long text": (
        "arrow.read, "
        "arrow_body({'k0': pa.DictionaryArray.from_arrays(pa.array([0] * 100_000), ['a' * 60_000_000])}), TEXTS"
    ),
    "different texts": (
        "csv.read, b'k0,k1,k2\\n' + b''.join(b'a%d,b%d,c%d\\n' % (at, at, at) for at in range(99_000)), TEXTS"
    ),
    "npy of nothing": (
        "npy.read, b'\\x93NUMPY\\x01\\x00\\x50\\x00'"
        " + b\"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 784)}\".ljust(80), NUMBERS"
    ),
    "commas": "csv.read, b'x0\\n' + b',' * 60_000_000, NUMBERS",
    "short rows": "csv.read, b'x0,x1\\n' + b'1,1\\n' * 15_000_000, TWO",
    "quote": "csv.read, b'x0,x1\\n1,\"' + b'1\\n' * 30_000_000, TWO",
    "short lines": "ndjson.read, b'[1]\\n' * 2_000_000, NUMBERS",
}

PROGRAM = """
import pandas  # which the tests bring and a service does not; pyarrow loads it where it is there
import pyarrow.compute, pyarrow.csv
import numpy as np, pyarrow as pa
from service.api.formats import arrow, csv, ndjson, npy
from service.domain.encoders import CategoricalEncoder, NumericEncoder
from service.domain.errors import InvalidRows, MalformedRequest
from service.use_cases.predict import answer
from tests.formats import arrow_body, npy_body, served

def resident(word):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith(word))

rng = np.random.default_rng(0)
NAMES = b",".join(b"x%%d" %% at for at in range(784)) + b"\\n"
NUMBERS = [NumericEncoder(f"x{at}") for at in range(784)]
TWO = NUMBERS[:2]
GAPPED = [NumericEncoder(f"x{at}", gaps=True) for at in range(784)]
TEXTS = [CategoricalEncoder(f"k{at}", ("text1",), gaps=True) for at in range(40)]
read, body, encoders = %s
model = served(encoders)
pa.default_memory_pool().release_unused()
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = resident("VmRSS")
try:
    taken = bytearray(body)  # as it is received
    said = answer(model, read(taken, model)).values.shape
except (InvalidRows, MalformedRequest) as error:
    said = type(error).__name__
print(said, round(resident("VmHWM") - before))
"""

pytestmark = linux_only


def read_alone(case: str) -> tuple[str, int]:
    """Return what a process says of a body, and by how many megabytes it grew."""
    made = subprocess.run([sys.executable, "-c", PROGRAM % case], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    said, grown = made.stdout.rsplit(maxsplit=1)
    return said, int(grown)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_largest_bodies_leave_the_process_small(case: str) -> None:
    said, grown = read_alone(case)
    assert said.endswith(", 1)")
    assert grown < MOST_MB


@pytest.mark.parametrize("case", BOMBS.values(), ids=BOMBS)
def test_bodies_that_would_fill_the_memory_are_refused(case: str) -> None:
    said, grown = read_alone(case)
    assert said in ("InvalidRows", "MalformedRequest")
    assert grown < MOST_MB
