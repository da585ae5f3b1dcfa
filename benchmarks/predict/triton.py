"""Triton, in an environment of its own: the wheel nvidia-pytriton carries the server with one backend, Python's.

So a network is run by ONNX Runtime in a process per instance, behind Triton's HTTP, queue and batching in C++. Its
settings here are the fastest that were found: dynamic batching (twice to three times the requests at 8 and 32
connections), no metrics, no gRPC, no log; the number of HTTP threads made no difference.

The lock file is ``uv pip compile --universal --no-deps --generate-hashes --no-annotate --no-header --python-version
3.11`` of nvidia-pytriton, onnxruntime (our version), numpy<2, flatbuffers, packaging and protobuf.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.predict.networks import Network
from benchmarks.predict.servers import Server, running
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "locks" / "bench-triton.txt"
CACHE = ROOT / ".bench"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
MAX_ROWS = 4096
HTTP_THREADS = 2
INSTALL_SECONDS = 900
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: {max_rows}
input [{{ name: "x" data_type: TYPE_FP32 dims: [{features}] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [{width}] }}]
instance_group [{{ count: {instances} kind: KIND_CPU }}]
dynamic_batching {{ }}
parameters: {{ key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: {{ string_value: "yes" }} }}
"""


class NoTriton(Exception):
    """It cannot be had on this machine; the text says why."""


@contextmanager
def triton(site: Path, folder: Path, networks: list[Network], instances: int) -> Iterator[Server]:
    """Run Triton with some networks, each in as many instances; ``folder`` holds their NAME-SEED.float32.onnx."""
    root, port = folder / f"triton-{instances}", free_port()
    backends, models = _make_backends(site, root), _make_models(folder, root, networks, instances)
    program = site / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    command = [
        *[str(program), "--model-repository", str(models), "--backend-directory", str(backends)],
        *["--http-address", "127.0.0.1", "--http-port", str(port), "--http-thread-count", str(HTTP_THREADS)],
        *["--allow-grpc", "false", "--allow-metrics", "false", "--log-info", "false", "--disable-auto-complete-config"],
    ]
    environment = {
        "PATH": f"{site.parents[2] / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(site),
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with running(command, environment, root / "log", f"http://127.0.0.1:{port}/v2/health/ready") as pid:
        yield Server(f"triton x{instances}", pid, port)


def install() -> Path:
    """Return the folder of the packages in Triton's environment, which is made on first use.

    Raises:
        NoTriton: it cannot be installed here, or its Python cannot be loaded.
    """
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise NoTriton("its Python backend needs a Python with a shared library (libpython3.x.so), and this has none")
    environment, wanted = CACHE / "triton", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    site = environment / "lib" / f"python{VERSION}" / "site-packages"
    stamp = environment / "installed"
    if not (stamp.exists() and stamp.read_text() == wanted and site.exists()):
        shutil.rmtree(environment, ignore_errors=True)
        CACHE.mkdir(exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        _run(sys.executable, "-m", "venv", str(environment))
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(*pip, "--no-deps", "--require-hashes", "-r", str(LOCK))
        stamp.write_text(wanted)
    return site


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or "no reason was given").splitlines()[-1]
        raise NoTriton(f"it cannot be installed: {said}") from None
    except subprocess.TimeoutExpired:
        raise NoTriton(f"installing it took more than {INSTALL_SECONDS} s") from None


def _make_backends(site: Path, root: Path) -> Path:
    """Lay out the backends as the server wants them: Python's program for this version of Python beside its library."""
    carried, backends = site / "pytriton" / "tritonserver", root / "backends"
    shutil.copytree(carried / "backends", backends)
    stub = carried / "python_backend_stubs" / VERSION / "triton_python_backend_stub"
    if not stub.exists():
        raise NoTriton(f"it has no Python backend for Python {VERSION}")
    shutil.copy(stub, backends / "python")
    return backends


def _make_models(folder: Path, root: Path, networks: list[Network], instances: int) -> Path:
    for network in networks:
        version = root / "models" / network.name / "1"
        version.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")
        shutil.copy(folder / f"{network.file}.float32.onnx", version / "model.onnx")
        config = CONFIG.format(
            name=network.name,
            features=network.features,
            width=network.width,
            instances=instances,
            max_rows=MAX_ROWS,
        )
        (version.parent / "config.pbtxt").write_text(config)
    return root / "models"
