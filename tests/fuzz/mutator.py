"""Changes valid bytes into almost valid ones; every change is drawn from a number, which repeats it."""

import random
import re
import struct
from collections.abc import Callable, Sequence

MOST_BYTES = 1 << 16
MOST_CHANGES = 6
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\t",
        b" ",
        b"\x1f",
    ),
    *(
        b'"',
        b'""',
        b"'",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b",",
        b";",
        b"|",
        b"{",
        b"}",
        b"[",
        b"]",
        b"[[",
        b":",
        b"/",
        b"~",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"nan",
        b"Infinity",
        b"-inf",
        b"1e400",
        b"-1e999",
        b"1e-400",
        b"-0.0",
        b"0x1F",
        b"1_000",
    ),
    *(
        b"9" * 30,
        b"9" * 5000,
        b"1,5",
        b"1.234,5",
        b"2020-01-31",
        b"31.02.2021",
        b"=1+1",
        b"\xe2\x80\xae",
        b"<img src=x>",
    ),
    *(b"PAR1", b"\x93NUMPY", b"ARROW1", b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"[" * 2000, b"a," * 3000),
)
NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(number: int, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with some changes; the same ones for the same number."""
    rng = random.Random(number)
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, MOST_CHANGES))):
        rng.choice(CHANGES)(rng, content, seeds)
    return bytes(content[:MOST_BYTES])


def _range(rng: random.Random, content: bytearray) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + int(rng.paretovariate(0.8)))


def _truncate(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    del content[rng.randint(0, len(content)) :]


def _flip(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    if content:
        content[rng.randrange(len(content))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def _delete(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    start, end = _range(rng, content)
    del content[start:end]


def _repeat(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    start, end = _range(rng, content)
    times = rng.choice((1, 2, 10, 1000))
    content[end:end] = (bytes(content[start:end]) * times)[:MOST_BYTES]


def _insert(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    place = rng.randint(0, len(content))
    content[place:place] = rng.choice(WORDS)


def _replace(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    start, end = _range(rng, content)
    content[start:end] = rng.choice(WORDS)


def _splice(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    content[rng.randint(0, len(content)) :] = other[rng.randint(0, len(other)) :]


def _length(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    """Write another number over bytes that may be a length."""
    form = rng.choice("BHIQ")
    size = struct.calcsize(f"<{form}")
    if len(content) < size:
        return
    place = rng.randrange(len(content) - size + 1)
    order = rng.choice("<>")
    value = struct.unpack_from(f"{order}{form}", content, place)[0]
    value = rng.choice((*EDGES, value + 1, value - 1, value * 2, len(content)))
    struct.pack_into(f"{order}{form}", content, place, value % (1 << 8 * size))


def _digits(rng: random.Random, content: bytearray, _seeds: Sequence[bytes]) -> None:
    """Write another number over digits."""
    found = list(NUMBER.finditer(content))
    if found:
        start, end = rng.choice(found).span()
        edge = rng.choice(EDGES)
        content[start:end] = rng.choice((b"%d" % edge, b"-%d" % edge, b"1e400", b"NaN", b"0.1", b"", b"9" * 40))


CHANGES: tuple[Change, ...] = (
    _truncate,
    _flip,
    _set,
    _delete,
    _repeat,
    _insert,
    _replace,
    _splice,
    _length,
    _digits,
)
