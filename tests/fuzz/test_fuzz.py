"""Everything that reads what strangers send, for some seconds; ``make fuzz`` does it for as long as asked."""

import subprocess
import sys

import pytest

from service.domain.errors import InvalidTable
from tests.fuzz.__main__ import fuzz
from tests.fuzz.mutator import mutated
from tests.fuzz.targets import TARGETS, Target, read_infer, read_numbers
from tests.patience import PATIENCE_SECONDS

BY_NAME = {target.name: target for target in TARGETS}
TAKEN = ("upload-csv", "upload-json", "upload-ndjson", "upload-parquet", "strict-json", "number-bodies", "headers")
"""Those whose seeds are all valid; what reads rows is asked for two models, one of which has other columns."""


def test_nothing_that_is_almost_valid_is_an_error_of_the_service() -> None:
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.fuzz",
        "--here",
        "--target",
        "readers",
        "--seconds",
        "6",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_changed_is_valid_before(name: str) -> None:
    target = BY_NAME[name]
    for seed in target.seeds():
        if seed != b"[]":  # a table without rows is none
            target.read(seed)


def test_equal_numbers_give_equal_bytes() -> None:
    seeds = BY_NAME["upload-csv"].seeds()
    assert [mutated(number, seeds) for number in range(50)] == [mutated(number, seeds) for number in range(50)]
    assert len({mutated(number, seeds) for number in range(50)}) > 40


def test_finding_is_told_with_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    def read(content: bytes) -> None:
        if b"b" not in content:
            raise KeyError

    target = Target("made-up", lambda: [b"abc"], read, (ValueError,))
    assert not fuzz(target, 1, 60.0, 1000)
    said = capsys.readouterr()
    assert "KeyError" in said.err
    assert "again: python -m tests.fuzz --here --target made-up --seed " in said.out


def test_quick_reader_leaves_a_nul_to_the_strict_one() -> None:
    read_numbers(b'{"rows": [[1.0, 2]], "model": "\\u0000"}')
    read_numbers(b'{"rows": [[1.0, 2]], "mo\\u0000del": "a"}')
    for words in (b'"id": "\\u0000a", "inputs": [{"name": "x"', b'"id": "a", "inputs": [{"name": "\\u0000x"'):
        read_numbers(b'{%b, "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.5]}]}' % words)


@pytest.mark.filterwarnings("error")
def test_nan_that_signals_is_a_gap_without_a_warning() -> None:
    head = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}]}'
    with pytest.raises(BY_NAME["open-inference"].allowed):
        read_infer(len(head).to_bytes(4, "little") + head + b"\x01\x00\x80\x7f" * 3)


def test_number_beyond_float32_is_refused_with_decimal_commas_as_well() -> None:
    with pytest.raises(InvalidTable, match="holds inf in column 'a', row 1"):
        BY_NAME["upload-csv"].read(b"a;b\n1,1e400;x\n2,25;y\n")
    with pytest.raises(InvalidTable, match="column 'a', row 2"):
        BY_NAME["upload-csv"].read(b"a;b\n1,5;x\n2,25e39;y\n")


def test_parquet_with_a_negative_index_is_refused_as_damaged() -> None:
    target = BY_NAME["upload-parquet"]
    with pytest.raises(InvalidTable, match="cannot be read as Parquet"):
        target.read(mutated(4225, target.seeds()))
