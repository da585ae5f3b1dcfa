"""What the bits of a training depend on beside spec, data and seed; and the threads that it may use."""

import ctypes
import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import joblib
import keras
import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits

VECTOR_FLAG = "--xla_cpu_prefer_vector_width"
# XLA prefers vectors of 256 bits even where the processor has 512, which costs a quarter to a third of the speed. It
# reads its flags when it first compiles; what the user has set stays.
if VECTOR_FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {VECTOR_FLAG}=512".strip()

Environment = dict[str, str]

ONLY_SERVES = frozenset({"onnxruntime"})
"""Touches no weight."""


def configure(threads: int | None) -> None:
    """Prepare this process for training, before anything is computed.

    It uses so many threads, or as many as it has cores. A GPU, where there is one, is used in a deterministic way, and
    its memory is taken as it is needed.
    """
    count = threads or joblib.cpu_count()  # knows of containers' limits and of CPU affinity
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    threadpool_limits(count)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, enable=True)
        tf.config.experimental.enable_op_determinism()


def release_memory() -> None:
    """Give back to the system what glibc keeps of freed memory: a quarter of a gigabyte after compiling."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@cache
def environment() -> Environment:
    """Return the fingerprint of this process: equal ones give equal bits."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": str(tf.config.threading.get_intra_op_parallelism_threads() or joblib.cpu_count()),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "onnxruntime": version("onnxruntime"),
    }


def differences(one: Environment, other: Environment) -> list[str]:
    """Name what differs between two fingerprints."""
    return [
        f"{name} {one.get(name, 'unknown')} became {other.get(name, 'unknown')}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name) and name not in ONLY_SERVES
    ]


def _processor() -> str:
    """Name what compiled code is made for: the GPU, or the CPU with its instructions."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    said = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    instructions = hashlib.sha256(said.get("flags", said.get("Features", "")).encode()).hexdigest()[:8]
    return f"{said.get('model name', platform.machine())}, instructions {instructions}"
