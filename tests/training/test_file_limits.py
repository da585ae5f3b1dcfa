"""What a training process may take of a disk: held by the system, so tried in processes of their own."""

import subprocess
import sys

from tests.patience import PATIENCE_SECONDS
from tests.processes import linux_only

pytestmark = linux_only

LIMITED = """
import resource, tempfile
from workers.room import OPEN_FILES, bound_files
bound_files({bytes})
"""
STREAM = """
from workers.preparation import NoRoom, _in_a_file
assert _in_a_file((256, 1000)).nbytes == 1_024_000
try:
    _in_a_file((257, 1000))
except NoRoom as error:
    print(error.code, "File too large" in str(error))
"""
WRITE = """
with tempfile.TemporaryFile(buffering=0) as file:
    file.write(bytes(1_024_000))
    try:
        file.write(bytes(1))
        print("written")
    except OSError as error:
        print(error.strerror)
"""
OPEN = """
held = []
try:
    while True:
        held.append(open("/dev/null"))
except OSError as error:
    print(error.strerror, len(held) + 3 <= OPEN_FILES, resource.getrlimit(resource.RLIMIT_CORE))
"""


def said(script: str, most: int | None = 1_024_000) -> str:
    command = [sys.executable, "-c", LIMITED.format(bytes=most) + script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS).stdout.strip()


def test_file_may_be_as_large_as_the_limit_and_not_a_byte_larger() -> None:
    assert said(WRITE) == "File too large"
    assert said(WRITE, None) == "written"


def test_rows_that_need_a_larger_file_are_refused_by_name() -> None:
    assert said(STREAM) == "no_room True"


def test_files_that_are_never_closed_come_to_an_end_and_nothing_is_dumped() -> None:
    assert said(OPEN) == "Too many open files True (0, 0)"
