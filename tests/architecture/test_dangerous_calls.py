"""What turns bytes into code is called in one named place each, or nowhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("service", "workers", "migrations")
READERS = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "torch")
"""Modules that run what is in the files that they read, whatever is called of them."""
CALLS = (
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "load_model",
    "model_from_json",
    "from_config",
)
ALLOWED = {
    # Counts cores, as containers and affinities have it; a file is neither read nor written.
    ("workers/environment.py", "joblib"),
    # Reads back the file that this very process has just written, to compare it with what is served.
    ("workers/export.py", "load_model"),
    # Copies a network of this process.
    ("workers/export.py", "from_config"),
}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Name what a module uses of all this."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in (*READERS, "joblib"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (*READERS, "joblib"):
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    options = {option.arg: option.value for option in node.keywords}
    if name in CALLS or last in ("load_model", "model_from_json", "from_config", "unsafe_load", "full_load"):
        yield last if name not in CALLS else name
    if name.endswith("yaml.load") or (last in ("load", "load_all") and name.startswith("yaml.")):
        yield "yaml.load"
    if name in ("np.load", "numpy.load", "np.lib.format.read_array") and not _is(options.get("allow_pickle"), False):
        yield f"{name} that may unpickle"
    if "shell" in options and not _is(options["shell"], False):
        yield "a shell"
    if "enable_unsafe_deserialization" in last or _is(options.get("safe_mode"), False):
        yield "Keras without its safe mode"


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_runs_what_it_reads() -> None:
    found = {
        (str(path.relative_to(ROOT)), danger)
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*.py")
        for danger in dangers(ast.parse(path.read_text()))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("from marshal import loads", "marshal"),
        ("import joblib", "joblib"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("os.system(text)", "os.system"),
        ("yaml.load(text)", "yaml.load"),
        ("keras.saving.load_model(path)", "load_model"),
        ("np.load(path)", "np.load that may unpickle"),
        ("np.load(path, allow_pickle=True)", "np.load that may unpickle"),
        ("subprocess.run(line, shell=True)", "a shell"),
        ("keras.config.enable_unsafe_deserialization()", "Keras without its safe mode"),
        ("load(path, safe_mode=False)", "Keras without its safe mode"),
    ],
)
def test_each_danger_is_seen(source: str, danger: str) -> None:
    assert list(dangers(ast.parse(source))) == [danger]


@pytest.mark.parametrize(
    "source", ["np.load(path, allow_pickle=False)", "subprocess.run([a], shell=False)", "re.compile(a)"]
)
def test_what_is_safe_is_let_be(source: str) -> None:
    assert not list(dangers(ast.parse(source)))
