"""A GPU runs the same code as a CPU, and learns the same."""

import json

import pytest
import tensorflow as tf

from tests.training.support import DROPOUT_AND_CLASS_WEIGHTS, case, output_of, start_python

SCRIPT = """
import json, sys
from workers import environment
environment.configure(None)
from tests.training.support import case
print(json.dumps([environment.environment()["processor"], case(sys.argv[1]).run().measured[0][1]["loss"]]))
"""


# Nothing else says whether the code runs on a GPU; the machines that tests usually run on have none.
@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")
def test_first_epoch_on_a_gpu_comes_to_what_it_does_on_a_cpu() -> None:
    started = [start_python(SCRIPT, DROPOUT_AND_CLASS_WEIGHTS, CUDA_VISIBLE_DEVICES=visible) for visible in ("0", "-1")]
    (gpu, on_gpu), (cpu, on_cpu) = (json.loads(output_of(process).splitlines()[-1]) for process in started)
    assert gpu != cpu
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)
    assert case(DROPOUT_AND_CLASS_WEIGHTS).run().trained.best_epoch >= 1
