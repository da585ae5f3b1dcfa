"""The versions below which a library that we use has a published fault that could be reached through this service."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FLOORS = {
    "aiohttp": ("3.13.3", "CVE-2025-69223: a compressed body grows without bound"),
    "brotli": ("1.2.0", "the growth of a compressed body cannot be bounded"),
    "celery": ("5.2.2", "CVE-2021-23727: a result that is read runs commands"),
    "certifi": ("2024.7.4", "CVE-2024-39689: trusts an authority that Mozilla drops"),
    "cryptography": ("46.0.5", "CVE-2026-26007: points of small order are taken"),
    "fastapi": ("0.109.1", "CVE-2024-24762: a header of a form keeps a core busy"),
    "flask": ("3.1.3", "CVE-2026-27205: a page of one visitor is cached for another"),
    "fonttools": ("4.60.2", "CVE-2025-66034: the design of a font that is built writes files"),
    "h11": ("0.16.0", "CVE-2025-43859: requests are smuggled through chunked bodies"),
    "idna": ("3.7", "CVE-2024-3651: a host's name keeps a core busy"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a template leaves its sandbox"),
    "joblib": ("1.2.0", "CVE-2022-21797: the number of jobs that are sent ahead is evaluated"),
    "keras": ("3.13.2", "CVE-2026-1462, CVE-2025-9905, CVE-2025-1550: a model that is read runs code in safe mode"),
    "kombu": ("5.7.0", "a consumer goes deaf when its connection comes back"),
    "mako": ("1.2.2", "CVE-2022-40023: a template keeps a core busy"),
    "onnx": ("1.21.0", "CVE-2026-27489: a model that is read names files of the machine"),
    "orjson": ("3.11.6", "CVE-2025-67221, CVE-2024-27454: deep nesting ends the process"),
    "pillow": ("11.3.0", "CVE-2025-48379: an image that is written overflows its buffer"),
    "protobuf": ("6.33.5", "CVE-2026-0994, CVE-2025-4565: deep nesting ends the process"),
    "pyarrow": ("14.0.1", "CVE-2023-47248: a table that is read runs code"),
    "python-multipart": ("0.0.30", "CVE-2026-53538, CVE-2026-40347, CVE-2024-53981: forms keep a core busy"),
    "redis": ("4.5.4", "CVE-2023-28859, CVE-2023-28858: an answer goes to another's question"),
    "requests": ("2.32.4", "CVE-2024-47081: passwords go to other hosts"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206: words of the training data are kept"),
    "setuptools": ("78.1.1", "CVE-2025-47273: a package that is fetched writes files"),
    "starlette": ("1.3.0", "CVE-2026-48710, CVE-2025-62727: a host is taken for a path, ranges keep a core busy"),
    "urllib3": ("2.7.0", "CVE-2026-44432, CVE-2026-21441, CVE-2025-66418: a compressed body grows without bound"),
    "uvicorn": ("0.11.7", "CVE-2020-7695: the value of a header writes other headers of the answer"),
    "werkzeug": ("3.1.6", "CVE-2026-27199, CVE-2026-21860, CVE-2025-66221: names of devices are opened"),
    "zipp": ("3.19.1", "CVE-2024-5569: an archive keeps a core busy"),
}
"""The least version by library, with what is wrong below it."""
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(text: str) -> set[tuple[str, str]]:
    """Return the names and versions in a lock file."""
    return {(canonicalize_name(name), version) for name, version in PIN.findall(text)}


def below(found: set[tuple[str, str]]) -> list[str]:
    """Say which versions are too old."""
    return [
        f"{name} {version}, at least {floor}: {why}"
        for name, version in sorted(found)
        for floor, why in (FLOORS.get(name, ("0", "")),)
        if Version(version) < Version(floor)
    ]


@pytest.mark.parametrize("lock", sorted((ROOT / "deploy/locks").glob("*.txt")), ids=lambda path: path.name)
def test_what_is_installed_has_no_known_fault(lock: Path) -> None:
    assert not below(pins(lock.read_text()))


def test_what_may_be_installed_has_no_known_fault() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    requirements = [Requirement(line) for line in asked]
    least = {
        (str(canonicalize_name(one.name)), bound.version)
        for one in requirements
        for bound in one.specifier
        if bound.operator in (">=", "==", "~=")
    }
    assert {canonicalize_name(one.name) for one in requirements} == {name for name, _ in least}, (
        "each has a lower bound"
    )
    assert not below(least)


def test_every_floor_is_of_a_library_that_is_used() -> None:
    used = {name for lock in (ROOT / "deploy/locks").glob("*.txt") for name, _ in pins(lock.read_text())}
    assert FLOORS.keys() <= used


def test_old_version_is_seen() -> None:
    assert below(pins("starlette==0.47.3 \\\n    --hash=x\nh11==0.16.0\n")) == [
        "starlette 0.47.3, at least 1.3.0: " + FLOORS["starlette"][1]
    ]
