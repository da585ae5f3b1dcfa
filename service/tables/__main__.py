"""The process that reads one upload: ``python -m service.tables``, started by ``service.tables.importer``.

It bounds its own memory and time before it loads anything that reads the file. Then two open files and a line of JSON
come in over its standard input, a socket, and one line goes out. It ends with its parent, when the socket is closed.
"""

import errno
import json
import math
import os
import resource
import socket
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.domain.errors import InvalidTable

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})


def main() -> None:
    """Read the file that is asked for and say what it holds."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    _limit(int(sys.argv[1]), float(sys.argv[2]))
    with suppress(MemoryError, ImportError):  # said when it is asked
        import service.tables.reading  # noqa: F401  # under the limits, and while the file still comes in
    line = socket.socket(fileno=sys.stdin.fileno())
    _, files, *_ = socket.recv_fds(line, 1, 2)
    with line.makefile("rb") as lines:
        asked = lines.readline()
    if len(files) < 2 or not asked:
        return
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    question = {**json.loads(asked), "source": files[0], "output": files[1]}
    answers.write(json.dumps(_answer(question)).encode())
    answers.close()
    os._exit(0)  # to free gigabytes cell by cell takes longer than to leave them


def _limit(memory_bytes: int, seconds: float) -> None:
    """Bound this process.

    RLIMIT_DATA counts the memory that is its own. RLIMIT_AS would count libraries, and what allocators reserve and do
    not use: with it, mimalloc needs a bound of twice what it takes.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu_seconds = math.ceil(seconds * (os.cpu_count() or 1))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    with suppress(OSError):  # where memory runs out all the same, Linux is to end this process before others
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent(line: socket.socket) -> None:
    while line.recv(1):
        pass
    os._exit(1)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return the table, or what is wrong with the file, or nothing where memory did not suffice."""
    try:
        from service.tables.allowance import Allowance
        from service.tables.reading import read  # Arrow is loaded under the limits
        from service.tables.request import ImportRequest

        missing = question["request"].pop("missing")
        request = ImportRequest(**question["request"], missing=None if missing is None else tuple(missing))
        with os.fdopen(question["source"], "rb") as source, os.fdopen(question["output"], "wb") as output:
            return {"table": asdict(read(source, output, request, Allowance(**question["allowance"])))}
    except InvalidTable as error:
        return {"violations": [asdict(violation) for violation in error.violations]}
    except OSError as error:
        if error.errno in DISK_ERRORS:
            return {"os_error": [error.errno, error.strerror]}
        return _unexpected()
    except MemoryError:
        return {}
    except ImportError:  # a library that cannot be mapped for want of memory, or one that is not there
        traceback.print_exc()
        return {}
    except Exception as error:  # noqa: BLE001  # whatever a stranger's file brings about, its sender gets an answer
        return {} if "start new thread" in str(error) else _unexpected()


def _unexpected() -> dict[str, Any]:
    traceback.print_exc()
    detail = "the file cannot be read: it holds something that this service did not expect; its log says more"
    return {"violations": [{"pointer": "#", "detail": detail}]}


if __name__ == "__main__":
    main()
