"""The files of a version, used as somebody uses them who has Keras or ONNX Runtime and nothing of this project."""

import json
import random
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.encoders import NumericEncoder
from service.domain.models import Inputs, Outputs
from service.domain.owners import DEFAULT_OWNER
from service.domain.spec import MlpSpec, SnnSpec
from service.storage.database import Database
from service.use_cases import model_files
from service.use_cases.serving import Serving
from tests.asking import predict
from tests.factories import stored_job
from tests.training.attempts import add_table, read, run
from workers import export
from workers import network as networks
from workers.room import when_there_is_room

ENCODE_ROWS = Path(__file__).with_name("encode_rows.py")
WITH_KERAS = """
import sys
import keras
import numpy
for folder in sys.argv[1:]:
    model = keras.models.load_model(f"{folder}/model.keras")
    rows = numpy.load(f"{folder}/rows.npy")
    numpy.save(f"{folder}/answers.npy", keras.ops.convert_to_numpy(model(rows)))
assert not {"service", "workers"} & {name.partition(".")[0] for name in sys.modules}
"""
WITH_ONNX = """
import sys
import numpy
import onnxruntime
for folder in sys.argv[1:]:
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
    answers, = session.run(None, {"x": numpy.load(f"{folder}/rows.npy")})
    numpy.save(f"{folder}/answers.npy", answers)
assert not {"service", "workers"} & {name.partition(".")[0] for name in sys.modules}
"""
TRAINING = {"epochs": 4, "test_fraction": 0.2}
SNN = {"kind": "snn", "hidden_layers": 2, "units": 16, "dropout": 0.1}
MLP = {"kind": "mlp", "hidden_layers": 2, "units": 16, "dropout": 0.2, "normalization": "batch", "activation": "relu"}


def stamped_table() -> str:
    """Numbers whose mean is large against their spread, tiny ones, and a column that never changes in training."""
    rng = random.Random(1)
    lines = ["stamp,tiny,still,y,part"]
    for place in range(300):
        stamp, tiny = 1_600_000_000 + rng.random(), rng.gauss(0, 1e-9)
        part = "test" if place >= 240 else "training"
        still = 5.0 if part == "training" else rng.gauss(0, 1e6)
        lines.append(f"{stamp!r},{tiny!r},{still!r},{300_000 + 250 * (stamp % 1 + tiny * 1e9)!r},{part}")
    return "\n".join(lines)


def mixed_table() -> str:
    rng = random.Random(2)
    lines = ["size,rooms,city,grade,flat,since,seen,kind"]
    for place in range(400):
        size = "NA" if place % 9 == 0 else f"{rng.lognormvariate(4, 1)!r}"
        city = "" if place % 11 == 0 else rng.choice(["Bern", "Basel", "Zug, ZG", "Chur"])
        city = f"village {place}" if place % 25 == 1 else city
        grade = rng.choice("xy")
        flat = "" if place % 13 == 0 else rng.choice(["true", "false"])
        since = "" if place % 17 == 0 else f"{1 + place % 28:02d}.{1 + place % 12:02d}.{2000 + place % 20}"
        seen = f"2020-01-{1 + place % 31:02d}T{place % 24:02d}:{place % 60:02d}:00"
        lines.append(f'{size},{rng.gauss(3, 1)!r},"{city}",{grade},{flat},{since},{seen},{"ab"[rng.random() < 0.4]}')
    return "\n".join(lines)


NAMES = ("size", "rooms", "city", "grade", "flat", "since", "seen")
ODD_ROWS: list[dict[str, Any]] = [
    dict(zip(NAMES, (None, 3, "Nowhere", "x", None, None, "2020-02-28T23:59:59.5+02:00"), strict=True)),
    dict(zip(NAMES, (" NA ", -1e6, " ", "z", 1, "2021-12-31", "1969-07-20"), strict=True)),
    dict(zip(NAMES, (1e9, 2.5, "village 26", "y", False, " 29.02.2024 ", "2020-06-01 12:30"), strict=True)),
    {"rooms": 0, "grade": "y", "seen": "2020-01-01T00:00Z"},
]


@dataclass(frozen=True)
class Exported:
    """A trained model: its files in a folder, rows as its clients send them, and what the service answers."""

    folder: Path
    rows: list[Any]
    answers: NDArray[np.float64]
    scale: float
    """Of the target, 1 for a classification."""

    @property
    def encoder(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "encoder.json").read_text())
        return document


def export_model(database: Database, folder: Path, name: str, rows: list[Any]) -> Exported:
    folder.mkdir()
    for file in ("model.keras", "model.onnx", "encoder.json"):
        found = model_files.find_file(database, name, 1, file)
        with model_files.open_file(database, name, 1, found) as content:
            (folder / file).write_bytes(content.read())
    said = predict(Serving(database), name, rows)
    given: Any = said.predictions if said.probabilities is None else said.probabilities
    answers = np.array(given, np.float64).reshape(len(rows), -1)
    scale = float(answers.std()) if said.probabilities is None else 1.0
    return Exported(folder, rows, answers, scale)


@pytest.fixture(scope="module")
def exported(stocked_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Models of every kind of table, trained by a worker's attempt and asked as clients ask."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copy(stocked_sqlite, folder / "selfnorm.db")
    database = Database(f"sqlite:///{folder / 'selfnorm.db'}").owned_by(DEFAULT_OWNER)
    add_table(database, folder, stamped_table(), "stamped")
    add_table(database, folder, mixed_table(), "mixed")
    rng = np.random.default_rng(0)
    mixed = {"dataset": "mixed", "target": "kind"}
    stamps = {"split_column": "part", "split": "column", "validation_fraction": 0.1, "epochs": 4}
    asked: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "iris": ({"dataset": "iris", "network": SNN, "training": TRAINING}, rng.normal(4, 2, (50, 4)).tolist()),
        "diabetes": (
            {"dataset": "diabetes", "network": MLP, "training": TRAINING},
            rng.normal(0, 0.05, (50, 10)).tolist(),
        ),
        "stamped": (
            {"dataset": "stamped", "target": "y", "task": "regression", "network": SNN, "training": stamps},
            [[1_600_000_000 + rng.random(), rng.normal(0, 1e-9), rng.normal(0, 1e9)] for _ in range(50)],
        ),
    }
    for numeric in ("standard", "robust", "quantile"):
        spec = {**mixed, "network": SNN, "training": TRAINING, "preparation": {"numeric": numeric}}
        asked[numeric] = spec, ODD_ROWS
    found = {}
    for name, (spec, rows) in asked.items():
        stored_job(database, name, model=name, **spec)
        run(database, name)
        job = read(database, name)
        assert job.model_version == 1, (name, job.error_detail)
        found[name] = export_model(database, folder / name, name, rows)
    database.close()
    return found


def in_a_fresh_process(script: str, folders: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *map(str, folders)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def encoded(exported: dict[str, Exported]) -> dict[str, Exported]:
    """The same, with the rows encoded by a reader of its own: a numeric table's rows are what it is."""
    for model in exported.values():
        rows = model.rows
        if not model.encoder["takes_raw_rows"]:
            paths = [model.folder / name for name in ("encoder.json", "rows.json", "encoded.json")]
            paths[1].write_text(json.dumps(rows))
            subprocess.run([sys.executable, "-I", ENCODE_ROWS, *paths], check=True)
            rows = json.loads(paths[2].read_text())
        np.save(model.folder / "rows.npy", np.array(rows, np.float64))
    return exported


@pytest.mark.parametrize("script", [WITH_KERAS, WITH_ONNX], ids=["keras", "onnx"])
def test_files_answer_as_the_service_does(encoded: dict[str, Exported], script: str) -> None:
    in_a_fresh_process(script, [model.folder for model in encoded.values()])
    for name, model in encoded.items():
        answers = np.load(model.folder / "answers.npy")
        assert answers.shape == model.answers.shape, name
        far = np.abs(answers - model.answers) / np.maximum(model.scale, np.abs(model.answers - model.answers.mean()))
        assert far.max() <= 1e-5, name
        assert np.ptp(model.answers[:, 0]) > 0.001 * model.scale, f"{name} answers everything alike"


def test_numeric_tables_take_raw_rows(exported: dict[str, Exported]) -> None:
    raw = {name for name, model in exported.items() if model.encoder["takes_raw_rows"]}
    assert raw == {"iris", "diabetes", "stamped"}


def test_mixed_table_has_columns_of_every_kind(exported: dict[str, Exported]) -> None:
    features = {feature["name"]: feature for feature in exported["robust"].encoder["features"]}
    kinds = {name: (feature["kind"], feature["gaps"]) for name, feature in features.items()}
    assert kinds == {
        "size": ("numeric", True),
        "rooms": ("numeric", False),
        "city": ("categorical", True),
        "grade": ("categorical", False),
        "flat": ("boolean", True),
        "since": ("date", True),
        "seen": ("date", False),
    }
    assert (features["city"]["other"], features["grade"]["other"]) == (True, False)
    assert (features["since"]["written"], features["seen"]["has_time"]) == ("%d.%m.%Y", True)


def test_keras_file_holds_layers_of_keras_only(exported: dict[str, Exported]) -> None:
    layers = {name: [type(layer) for layer in loaded(model).layers] for name, model in exported.items()}
    kinds = [*(kind for found in layers.values() for kind in found)]
    assert {kind.__module__.partition(".")[0] for kind in kinds} == {"keras"}
    assert layers["iris"][:2] == [keras.layers.InputLayer, keras.layers.Rescaling]
    assert layers["iris"].count(keras.layers.AlphaDropout) == 2
    assert (layers["iris"][-1], layers["diabetes"][-1]) == (keras.layers.Softmax, keras.layers.Rescaling)
    assert layers["diabetes"].count(keras.layers.BatchNormalization) == 2


def test_rows_are_standardized_in_64_bits(exported: dict[str, Exported]) -> None:
    model = loaded(exported["stamped"])
    assert [model.get_layer(name).compute_dtype for name in ("centered", "standardized", "y")] == ["float64"] * 3
    row = np.array([[1_600_000_000.5, 1e-9, 1e9]])
    first = keras.Model(model.inputs[0], model.get_layer("standardized").output)
    still = exported["stamped"].encoder["columns"][2]
    assert still["scale"] > 1e299
    standardized = keras.ops.convert_to_numpy(first(row))[0]
    assert abs(standardized[2]) < 1e-200
    expected = [(row[0, place] - column["mean"]) / column["scale"] for place, column in enumerate(columns_of(exported))]
    np.testing.assert_allclose(standardized, expected, rtol=1e-12)


def columns_of(exported: dict[str, Exported]) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = exported["stamped"].encoder["columns"]
    return columns


def loaded(model: Exported) -> keras.Model:
    return export.from_keras((model.folder / "model.keras").read_bytes())


INPUTS = Inputs((NumericEncoder("a"), NumericEncoder("b")), (3e5, 0.0), (250.0, 1e300))


def keras_file(seed: int, weights_from: keras.Model | None = None) -> tuple[keras.Model, bytes]:
    spec = MlpSpec(kind="mlp", hidden_layers=2, units=8, dropout=0.5, initializer="he_normal", activation="elu")
    network = networks.build(spec, 2, 1, seed)
    if weights_from is not None:
        network.set_weights(weights_from.get_weights())
    return network, export.to_keras(network, INPUTS, Outputs("regression", "y", mean=5.0, scale=2.0))


def test_equal_networks_give_equal_files() -> None:
    first, file = keras_file(1)
    assert keras_file(1, first)[1] == file
    assert keras_file(2, first)[1] == file, "a network that is kept for many jobs has the seeds of the first"
    assert keras_file(2)[1] != file


def test_network_is_left_as_it_was() -> None:
    """A worker keeps networks for many jobs: what an export left behind in them would pile up."""
    network, _ = keras_file(3)
    before = [len(layer._inbound_nodes) for layer in network.layers]
    weights = [weight.copy() for weight in network.get_weights()]
    export.to_keras(network, INPUTS, Outputs("regression", "y"))
    assert [len(layer._inbound_nodes) for layer in network.layers] == before
    for one, other in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_file_can_be_trained_further() -> None:
    network = networks.build(SnnSpec(hidden_layers=1, units=8, dropout=0.5), 2, 2, 0)
    content = export.to_keras(network, INPUTS, Outputs("classification", "y", ("a", "b")))
    model = export.from_keras(content)
    rows = np.full((64, 2), 3e5)
    trained = keras.ops.convert_to_numpy(model(rows, training=True))
    assert len(np.unique(trained[:, 0])) > 1, "dropout drops where a network trains"
    assert len(np.unique(keras.ops.convert_to_numpy(model(rows))[:, 0])) == 1


def test_full_disk_is_waited_for() -> None:
    """The Keras file is made in a folder for temporary files."""
    network = networks.build(SnnSpec(hidden_layers=2, units=64), 1, 1, 0)
    inputs, outputs = Inputs((NumericEncoder("x"),), (0.0,), (1.0,)), Outputs("regression", "y")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tries: list[int] = []

    def on_wait() -> None:
        tries.append(len(tries))
        if len(tries) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        content = when_there_is_room(lambda: export.to_keras(network, inputs, outputs), on_wait)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tries == [0, 1, 2]
    assert content == export.to_keras(network, inputs, outputs)
