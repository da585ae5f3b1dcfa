"""The command line against the service as a user runs it."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from service.cli.row_files import PIECE_ROWS
from tests.command_line import CONTROL, HOSTILE, CommandLine, command
from tests.documents import ROOT, blocks, environment, reading
from tests.patience import PATIENCE_SECONDS
from tests.processes import Service, running

HOUSES = (
    "size,city,price\n50,Bern,200\n60,Basel,230\n80,Bern,310\n100,Basel,390\n,Bern,450\n45,Basel,170\n75,Bern,290\n"
)
ENDLESS = (
    "iris",
    "--epochs",
    "100000",
    "--set",
    "training.early_stopping=null",
    "--hidden-layers",
    "1",
    "--units",
    "4",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("cli") / "data") as service:
        yield service


@pytest.fixture(scope="module")
def cli(service: Service, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(str(service.client.base_url).rstrip("/"), tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def trained(cli: CommandLine) -> "subprocess.CompletedProcess[str]":
    """What came of training the model ``flats``, version 1."""
    (cli.folder / "flats.csv").write_text(HOUSES)
    words = ("train", "flats.csv", "--target", "price", "--task", "regression", "--epochs", "3", "--tag", "small")
    return cli.run(*words, "--watch", "--json")


@pytest.fixture
def job(trained: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(trained.stdout)
    return found


def test_code_of_the_reference_works(service: Service, tmp_path: Path) -> None:
    with reading(service, tmp_path) as reader:
        for block in blocks(ROOT / "docs/cli.md"):
            if block.excuse is None:
                reader.run(block)


def test_training_prints_one_document_and_words_beside_it(trained: "subprocess.CompletedProcess[str]") -> None:
    assert trained.returncode == 0, trained.stderr
    job = json.loads(trained.stdout)
    assert (job["state"], job["model"], job["tags"]) == ("succeeded", {"name": "flats", "version": 1}, ["small"])
    assert "uploaded flats.csv as data set" in trained.stderr
    assert re.findall(r"epoch (\d)/3  loss \S+", trained.stderr) == ["1", "2", "3"]
    assert "\x1b" not in trained.stderr


def test_training_that_is_not_watched_says_how_to_watch_it(cli: CommandLine, service: Service) -> None:
    done = cli.run("train", "iris", "--epochs", "1", "--kind", "mlp", "--hidden-layers", "9", "--units", "8")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^network +mlp, 9 hidden layers of 8 units", done.stdout, re.MULTILINE)
    assert re.search(r"^lint fail +depth: vanishing", done.stdout, re.MULTILINE)
    found = re.search(r"^selfnorm watch (\S+)$", done.stdout, re.MULTILINE)
    assert found is not None
    assert service.post(f"/jobs/{found.group(1)}/cancel")["id"] == found.group(1)


def test_validating_makes_no_job(cli: CommandLine, service: Service) -> None:
    before = [job["id"] for job in service.client.get("/jobs").json()["items"]]
    done = cli.run("train", "iris", "--validate-only", "--json", "--units", "8,4", "--dropout", "0.5")
    assert json.loads(done.stdout)["spec"]["network"]["units"] == [8, 4]
    assert [job["id"] for job in service.client.get("/jobs").json()["items"]] == before


def test_end_of_a_job_says_what_came_of_it_and_how_to_ask_its_model(cli: CommandLine, job: dict[str, Any]) -> None:
    done = cli.run("watch", job["id"])
    assert done.returncode == 0, done.stderr
    for name in ("ended", "best epoch", "verdict", "model"):
        assert re.search(rf"^{name}  +\S", done.stdout, re.MULTILINE), name
    assert job["verdict"]["detail"] in done.stdout
    assert "\nselfnorm predict flats rows.csv\n" in done.stdout
    curl = done.stdout.splitlines()[-1]
    assert curl.startswith(f"curl -s {cli.url}/predict")
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, check=True)
    assert len(json.loads(answer.stdout)["predictions"]) == 1


def test_watching_in_json_prints_every_event_as_a_line(cli: CommandLine, service: Service, job: dict[str, Any]) -> None:
    done = cli.run("watch", job["id"], "--json")
    assert done.returncode == 0, done.stderr
    events = service.client.get(f"/jobs/{job['id']}/events?page_size=100").json()["items"]
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [event["id"] for event in events]
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "succeeded"


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(cli: CommandLine, service: Service) -> None:
    with cli.start("train", *ENDLESS, "--watch") as process:
        assert process.stdout is not None
        assert any("epoch 1/100000" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    found = re.search(r"(\S+) goes on without you\n.*selfnorm watch \1\n.*selfnorm cancel \1\n", said)
    assert found is not None, said
    job_id = found.group(1)
    assert service.client.get(f"/jobs/{job_id}").json()["state"] == "running"
    assert "will pause" in cli.run("pause", job_id).stdout
    assert json.loads(cli.run("resume", job_id, "--json").stdout)["id"] == job_id
    assert cli.run("cancel", job_id).returncode == 0
    assert service.wait_for(job_id)["state"] == "cancelled"
    ended = cli.run("watch", job_id)
    assert ended.returncode == 1
    assert re.search(r"^ended +cancelled", ended.stdout, re.MULTILINE)
    refused = cli.run("retry", job_id)
    assert (refused.returncode, refused.stdout) == (3, "")


def test_refusal_names_every_violation_with_its_place(cli: CommandLine) -> None:
    done = cli.run("train", "iris", "--units", "0", "--epochs", "0", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    first, *violations = done.stderr.splitlines()
    assert re.fullmatch(r"selfnorm: the service refuses this, for 2 reasons \(422 invalid, request \w+\)", first)
    assert [line.split()[0] for line in violations] == ["#/network/units", "#/training/epochs"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "none.csv", "--target", "y"),
        ("train", "iris", "--set", "epochs"),
        ("train", "iris", "--kind", "rnn"),
        ("predict", "flats", "none.csv"),
        ("alias", "flats", "production", "1", "--rollback"),
        ("job", ""),
        ("train", "iris", "--learning-rate", "inf"),
        ("jobs", "--url", "http://127.0.0.1:abc"),
        ("version", "--api-key", "schlüssel"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_what_cannot_be_taken_is_a_usage_error(words: tuple[str, ...], cli: CommandLine) -> None:
    done = cli.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search("^(Error|selfnorm): ", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert "schlüssel" not in done.stderr


@pytest.mark.usefixtures("trained")
def test_rows_that_cannot_be_sent_are_said(cli: CommandLine) -> None:
    rows = '{"size": 70, "city": "Bern"}\n{"size": Infinity, "city": "Bern"}\n'
    infinite = cli.run("predict", "flats", "-", "--format", "ndjson", stdin=rows)
    assert infinite.returncode == 2
    assert "the rows from 0 on cannot be sent: inf is no number" in infinite.stderr
    pq.write_table(pa.table({"size": [70.0], "city": [b"\xff"]}), cli.folder / "bytes.parquet")
    binary = cli.run("predict", "flats", "bytes.parquet")
    assert binary.returncode == 3
    assert "column 'city' holds 'binary'" in binary.stderr
    for done in (infinite, binary):
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("trained")
def test_rows_of_long_names_are_no_more_than_the_service_takes_at_once(cli: CommandLine) -> None:
    beside = {f"{'beside' * 10}{place}": place for place in range(20)}
    rows = [{"size": 70, "city": "Bern" * 300, **beside}] * PIECE_ROWS
    with (cli.folder / "long.ndjson").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), cli.folder / "long.parquet")
    for name in ("long.ndjson", "long.parquet"):
        done = cli.run("predict", "flats", name, "-o", "long.csv")
        assert done.returncode == 0, done.stderr
        assert f"{PIECE_ROWS:,} predictions" in done.stderr


@pytest.mark.usefixtures("trained")
def test_rows_come_back_with_their_predictions(cli: CommandLine, service: Service) -> None:
    rows: list[dict[str, Any]] = [{"size": 70, "city": "Bern"}, {"size": None, "city": "Basel"}]
    expected = service.post("/predict", model="flats", instances=rows)["predictions"]
    from_csv = cli.run("predict", "flats", "-", stdin="id,size,city\n1,70,Bern\n2,,Basel\n")
    assert from_csv.returncode == 0, from_csv.stderr
    assert from_csv.stdout == f"id,size,city,prediction\n1,70,Bern,{expected[0]}\n2,,Basel,{expected[1]}\n"
    assert "passed through: id" in from_csv.stderr
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    from_json = cli.run("predict", "flats", "-", "--format", "ndjson", "--json", stdin=lines)
    assert json.loads(from_json.stdout) == [
        {**row, "prediction": answer} for row, answer in zip(rows, expected, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), cli.folder / "rows.parquet")
    stored = cli.run("predict", "flats", "rows.parquet", "-o", "answers.csv")
    assert (stored.returncode, stored.stdout) == (0, "")
    assert "2 predictions of flats version 1" in stored.stderr
    written = (cli.folder / "answers.csv").read_text()
    assert written == f"size,city,prediction\n70,Bern,{expected[0]}\n,Basel,{expected[1]}\n"


@pytest.mark.usefixtures("trained")
def test_full_disk_leaves_no_part_of_a_file(cli: CommandLine) -> None:
    (cli.folder / "many.csv").write_text("size,city\n" + "70,Bern\n" * 1000)
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command("predict", "flats", "many.csv")]
    for output, why in (("full.csv", "File too large"), ("/dev/full", "No space left on device")):
        done = subprocess.run(
            [*limited, "-o", output], capture_output=True, text=True, check=False, env=cli.environment(), cwd=cli.folder
        )
        assert done.returncode == 2
        assert f"{output} cannot be written: {why}" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(cli.folder.glob("*full.csv*"))


@pytest.mark.usefixtures("trained")
def test_rows_are_answered_while_others_are_still_to_come(cli: CommandLine) -> None:
    with cli.start("predict", "flats", "-", "--version", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("size,city\n" + "70,Bern\n" * PIECE_ROWS)
        process.stdin.flush()
        assert process.stdout.readline() == "size,city,prediction\n"
        first = process.stdout.readline()
        process.stdin.write("70,Bern\nlarge,Bern\n")
        process.stdin.close()
        # Not by communicate: it leaves out what a readline has taken from the pipe beside its line.
        others = process.stdout.read()
        assert process.stderr is not None
        said = process.stderr.read()
    *before, answer = first.split(",")
    rows = [line.split(",") for line in others.splitlines()]
    assert [cells for *cells, _ in rows] == [before] * (PIECE_ROWS - 1)
    # How many rows are multiplied at once decides the last digits of a float32.
    assert [float(each) for *_, each in rows] == pytest.approx([float(answer)] * len(rows), rel=1e-5)
    assert process.returncode == 3
    assert "row 1, column 'size': must be a number; got 'large'" in said
    assert f"rows are counted from row {PIECE_ROWS:,} of the file on" in said


@pytest.mark.usefixtures("trained")
def test_alias_is_moved_and_taken_back(cli: CommandLine, service: Service) -> None:
    assert cli.run("alias", "flats", "best", "1").stdout == "best of flats stands for version 1\n"
    assert cli.run("alias", "flats", "best", "7").returncode == 3
    service.client.delete("/models/flats/aliases/best").raise_for_status()
    assert cli.run("alias", "flats", "best", "--rollback").stdout == "best of flats stands for version 1\n"
    history = json.loads(cli.run("alias", "flats", "best", "--json").stdout)["history"]
    assert [change["kind"] for change in history] == ["rolled_back", "removed", "set"]


@pytest.mark.parametrize(("form", "name"), [("onnx", "flats-1.onnx"), ("card", "flats-1.card.md")])
@pytest.mark.usefixtures("trained")
def test_files_of_a_version_are_saved(form: str, name: str, cli: CommandLine, service: Service) -> None:
    done = cli.run("export", "flats", "--format", form, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["path"], said["version"]) == (name, 1)
    path = {"onnx": "files/model.onnx", "card": "card"}[form]
    assert (cli.folder / name).read_bytes() == service.client.get(f"/models/flats/versions/1/{path}").content


@pytest.mark.parametrize("words", [("jobs", "--tag", "small"), ("models",), ("datasets",)])
@pytest.mark.usefixtures("trained")
def test_lists_print_what_the_service_says(words: tuple[str, ...], cli: CommandLine, service: Service) -> None:
    query = "?tag=small" if words[0] == "jobs" else ""
    items = service.client.get(f"/{words[0]}{query}").json()["items"]
    assert items
    done = cli.run(*words, "--json")
    assert json.loads(done.stdout) == items
    lines = cli.run(*words).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [item.get("id") or item["name"] for item in items]


def test_cells_of_a_file_reach_no_terminal_as_they_are(cli: CommandLine) -> None:
    rows = [{"[red]x[/]": number, "y": f"{HOSTILE}{number % 2}"} for number in range(12)]
    (cli.folder / "odd.json").write_text(json.dumps(rows))
    added = cli.run("datasets", "add", "odd.json", "--name", "[bold]:skull:", "--json")
    assert added.returncode == 0, added.stderr
    dataset = json.loads(added.stdout)
    assert HOSTILE in dataset["columns"][1]["examples"][0]
    shown = ("datasets", "show", dataset["id"])
    for text in (cli.run(*shown).stdout.replace("\t", ""), CONTROL.sub("", cli.on_terminal(*shown, width=200))):
        assert all(line.isprintable() for line in text.splitlines())
        assert "[bold]:skull:" in text
        assert "[red]x[/]" in text
    refused = cli.run("train", dataset["id"], "--target", "\x1b[2Jno")
    assert refused.returncode == 3
    assert refused.stderr.replace("\n", "").isprintable()
    removed = cli.run("datasets", "rm", dataset["id"], "--json")
    assert json.loads(removed.stdout) == {"id": dataset["id"], "removed": True}
    assert cli.run(*shown).returncode == 3


@pytest.mark.parametrize("width", [30, 120])
def test_list_fits_the_terminal(width: int, cli: CommandLine, job: dict[str, Any]) -> None:
    said = cli.on_terminal("jobs", width=width)
    lines = CONTROL.sub("", said).splitlines()
    if width == 30:
        assert lines[0].split() == ["id"]  # there is no room for another
    else:
        assert "\x1b[32msucceeded" in said
    assert all(cell_len(line) <= width for line in lines)
    assert any(line.startswith(job["id"]) for line in lines)


def test_job_is_drawn_on_a_terminal_without_colours_where_none_are_wanted(
    cli: CommandLine, job: dict[str, Any]
) -> None:
    said = cli.on_terminal("watch", job["id"])
    assert "\x1b[38;5;" in said
    assert "┌" in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "epoch 3/3" in said
    plain = cli.on_terminal("watch", job["id"], known={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "┌" in plain


def test_reader_that_goes_away_ends_a_command_in_silence(cli: CommandLine) -> None:
    shell = "selfnorm datasets show digits --json | true; echo ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment(cli.url), cwd=cli.folder
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.usefixtures("trained")
def test_shell_completes_what_the_service_knows_and_nothing_where_there_is_none(cli: CommandLine) -> None:
    def completed(line: str, **others: str) -> list[str]:
        words = {"_SELFNORM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        done = cli.run(**words, **others)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("selfnorm predict fl") == ["flats"]
    assert "iris" in completed("selfnorm train ir")
    assert completed("selfnorm predict fl", SELFNORM_URL="http://127.0.0.1:9") == []
    assert completed("selfnorm comp") == ["compare", "comparisons", "comparison"]


def test_comparison_is_watched_and_cancelled_as_a_job_is(cli: CommandLine) -> None:
    arms = ("--arm", "a=snn,hidden_layers=1,units=4", "--arm", "b=mlp,hidden_layers=1,units=4", "--seeds", "0")
    made = cli.run("compare", *ENDLESS[:5], *arms, "--json")
    assert made.returncode == 0, made.stderr
    comparison = json.loads(made.stdout)
    assert [job["arm"] for job in comparison["jobs"]] == ["a", "b"]
    assert cli.run("cancel", comparison["id"]).returncode == 0
    ended = cli.run("watch", comparison["id"])
    assert ended.returncode == 1, ended.stderr
    assert re.search(r"^2/2 jobs  cancelled$", ended.stdout, re.MULTILINE)
    found = json.loads(cli.run("comparison", comparison["id"], "--json").stdout)
    assert found["state"] == "cancelled"
