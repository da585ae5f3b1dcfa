"""How much the packages of an image take: python -m benchmarks.install_size [api|api-full|worker ...].

Each lock file is installed into an environment of its own. Counted are the bytes of its files, a MB being 10^6 of them,
without the compiled copies that Python makes (``__pycache__``). Status 1 where the extra ``api`` takes more than its
bound.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

LOCKS = Path(__file__).parents[1] / "deploy" / "locks"
BOUNDS = {"api": 400}
"""MB."""
SHOWN = 8


def main(names: list[str]) -> int:
    """Measure lock files; return the exit status."""
    is_within = True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            packages = _installed(LOCKS / f"{name}.txt", Path(folder) / "venv")
            sizes = {path.name: _megabytes(path) for path in packages.iterdir()}
        total = sum(sizes.values())
        bound = f" (bound {BOUNDS[name]})" if name in BOUNDS else ""
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
        print(f"{name}: {total:.0f} MB{bound}; {', '.join(f'{part} {size:.0f}' for part, size in largest)}")
        is_within &= total <= BOUNDS.get(name, total)
    return 0 if is_within else 1


def _installed(lock: Path, environment: Path) -> Path:
    """Install a lock file; return the folder of its packages."""
    uv = Path(sys.executable).with_name("uv")
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", environment, "--link-mode", "copy"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run([*install, "--require-hashes", "-r", lock], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    return packages


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts) / 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["api", "api-full"]))
