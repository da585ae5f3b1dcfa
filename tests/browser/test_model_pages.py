"""Models and predictions, in a browser: what answers, back to what answered, rows by a form and by a file."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from service.domain.encoders import NumericEncoder
from service.domain.owners import DEFAULT_OWNER
from service.storage.database import Database
from tests import served
from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.browser.pictures import keep, overflow
from tests.patience import PATIENCE_SECONDS
from tests.processes import Service

FEATURES = ["size", "city", "flat", "since"]
NETWORK = {"kind": "snn", "hidden_layers": 2, "units": 16, "dropout": 0.05}
DEFAULTS = "the one that answers"


def houses(rows: int = 200) -> str:
    draw = random.Random(5)
    lines = ["size,city,flat,since,price"]
    for _ in range(rows):
        size, city, flat = draw.randint(30, 150), draw.choice(["Bern", "Basel", "Zug", ""]), draw.random() < 0.5
        since = f"{draw.randint(1, 28):02d}.{draw.randint(1, 12):02d}.{draw.randint(2001, 2020)}"
        given = "" if draw.random() < 0.1 else size
        lines.append(f"{given},{city},{str(flat).lower()},{since},{size * 5 + 40 * flat}")
    return "\n".join(lines) + "\n"


def trained(service: Service, **spec: Any) -> None:
    job = service.post("/jobs", network=NETWORK, **spec)
    ended = service.wait_for(job["id"])
    assert ended["state"] == "succeeded", ended["error"]


@pytest.fixture(scope="module")
def house(service: Service) -> str:
    """A model of two versions, trained on a mixed table with gaps."""
    spec = {"dataset": service.upload("houses", houses()), "target": "price", "task": "regression", "model": "house"}
    for epochs in (2, 8):
        trained(service, **spec, training={"epochs": epochs, "test_fraction": 0.2})
    return "house"


@pytest.fixture(scope="module")
def registry(service: Service) -> Iterator[Database]:
    """The database of the service, for models made by hand: a training takes longer than all that is looked at here."""
    database = Database(f"sqlite:///{service.data_dir / 'selfnorm.db'}").owned_by(DEFAULT_OWNER)
    yield database
    database.close()


@pytest.fixture(scope="module")
def written(registry: Database) -> str:
    """A classification of the 64 columns of ``digits``, without dropout."""
    columns = [NumericEncoder(f"pixel_{row}_{column}") for row in range(8) for column in range(8)]
    plain = served.classifier("written", len(columns), 10)
    spec = {"dataset": "digits", **served.SNN}
    served.register(registry, served.version("written", columns, plain.onnx, tuple(range(10)), spec=spec))
    return "written"


def first_row(service: Service) -> dict[str, Any]:
    dataset = service.client.get("/models/house/versions/1").json()["data"]["dataset"]
    [row] = service.client.get(f"/datasets/{dataset}/rows?page_size=1").json()["items"]
    found: dict[str, Any] = row
    return found


def answer(service: Service, **asked: Any) -> dict[str, Any]:
    body = service.client.post("/predict", json={"model": "house", **asked})
    assert body.status_code == 200, body.text
    found: dict[str, Any] = body.json()
    return found


def shown(number: float) -> str:
    return f"{number:,.6g}"


def send(page: Page, name: str, content: str) -> None:
    # A browser knows no type of files such as .ndjson, and Windows has one of its own for .csv.
    page.locator(".drop input").set_input_files({"name": name, "mimeType": "", "buffer": content.encode()})


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_alias_is_set_moved_and_taken_back(visit: Callable[[str], Page], house: str, page_faults: Faults) -> None:
    page = visit(f"/dashboard/models/{house}")
    expect(page.get_by_label("Alias", exact=True)).to_have_value("production")
    for version in ("1", "2"):
        page.get_by_label("Alias", exact=True).fill("live")
        page.get_by_label("stands for").select_option(version)
        with page.expect_navigation():
            press(page, "Set")
    alias = page.locator(".alias")
    expect(alias).to_contain_text("version 2")
    with page.expect_navigation():
        press(page, "Roll back")
    expect(alias).to_contain_text("version 1")
    alias.get_by_text("History").click()
    expect(alias.locator("li").first).to_contain_text("rolled back to version 1")
    keep(page, "model-with-alias")
    assert grave_violations(page) == []
    press(page, "Roll back")
    expect(page.locator("#problems")).to_contain_text("no version that it stood for before is left")
    press(page, "Delete version 1")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#problems")).to_contain_text("live")
    press(page, "Delete alias live")
    with page.expect_navigation():
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("None is set.")).to_be_visible()
    page_faults.forget("409")


def test_press_that_is_made_twice_goes_back_once(
    visit: Callable[[str], Page], service: Service, registry: Database
) -> None:
    served.register(registry, *(served.numbers("hasty") for _ in range(3)))
    for version in (1, 2, 3):
        service.put("/models/hasty/aliases/live", version=version)
    page = visit("/dashboard/models/hasty")
    with page.expect_navigation():
        page.locator("[data-roll-back]").evaluate("(button) => setInterval(() => button.click())")
    expect(page.locator(".alias")).to_contain_text("version 2")
    assert service.client.get("/models/hasty/aliases/live").json()["version"] == 2


def test_version_is_deleted_for_good(visit: Callable[[str], Page], service: Service, registry: Database) -> None:
    served.register(registry, served.numbers("short"), served.numbers("short"))
    page = visit("/dashboard/models/short?version=2")
    press(page, "Delete version 2")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Version 1")).to_be_visible()
    assert service.client.get("/models/short/versions/2").status_code == 404


def test_name_that_an_alias_cannot_have_is_refused(
    visit: Callable[[str], Page], house: str, page_faults: Faults
) -> None:
    page = visit(f"/dashboard/models/{house}")
    page.get_by_label("Alias", exact=True).fill("7")
    press(page, "Set")
    expect(page.locator("#problems")).to_contain_text("must hold a letter")
    page_faults.forget("422")


def test_row_of_the_table_is_asked_about(visit: Callable[[str], Page], service: Service, house: str) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    row = first_row(service)
    day, month, year = row["since"].split(".")
    expect(page.get_by_label("since")).to_have_value(f"{year}-{month}-{day}")
    page.wait_for_load_state("networkidle")  # with the row has come what the table says of it
    press(page, "Predict")
    known = answer(service, instances=[{name: row[name] for name in FEATURES}])["predictions"][0]
    expect(page.locator("#answer strong")).to_have_text(shown(known))
    expect(page.locator("#answer")).to_contain_text(f"The table says {shown(row['price'])} of this row")
    expect(page.locator("#answer")).to_contain_text("Version 2 answered")
    keep(page, "predict-answered")
    assert overflow(page) <= 0


def test_row_is_typed_with_gaps_where_training_saw_them(
    visit: Callable[[str], Page], service: Service, house: str
) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    page.get_by_label("size").fill("")
    page.get_by_label("city").select_option(label="(missing)")
    page.get_by_label("flat").select_option("true")
    page.get_by_label("since").fill("2010-05-06")
    press(page, "Predict")
    typed = {"size": None, "city": None, "flat": True, "since": "2010-05-06"}
    known = answer(service, instances=[typed])["predictions"][0]
    expect(page.locator("#answer strong")).to_have_text(shown(known))
    expect(page.locator("#answer")).not_to_contain_text("The table says")
    page.get_by_label("since").fill("")
    before = page.locator("#answer").text_content()
    press(page, "Predict")
    assert page.get_by_label("since").evaluate("(field) => field.validity.valueMissing") is True
    assert page.locator("#answer").text_content() == before


def test_what_is_typed_before_the_script_runs_stays(page: Page, service: Service, house: str) -> None:
    held: list[Route] = []
    page.route("**/predict.js*", lambda route: held.append(route))  # it marks a function of its own
    page.goto(f"{service.client.base_url}/dashboard/models/{house}/predict", wait_until="commit")
    page.get_by_label("size").fill("77")
    page.get_by_label("city").select_option(label="Zug")
    while not held:
        page.wait_for_timeout(20)
    predict = page.get_by_role("button", name="Predict", exact=True)
    expect(predict).to_be_disabled()  # a press would lose what is typed
    held.pop().continue_()
    expect(page.locator("#commands")).to_contain_text('"size": 77, "city": "Zug"')
    expect(page.get_by_label("size")).to_have_value("77")
    expect(predict).to_be_enabled()


def test_value_far_outside_is_warned_of(visit: Callable[[str], Page], house: str) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    page.get_by_label("size").fill("90000")
    press(page, "Predict")
    expect(page.locator("#answer .banner")).to_contain_text("'size'")
    page = visit(f"/dashboard/models/{house}")
    expect(page.locator("#version")).to_contain_text("Far from training")


def test_answer_is_doubted_and_explained(visit: Callable[[str], Page], service: Service, house: str) -> None:
    page = visit(f"/dashboard/models/{house}/predict?version=2")
    page.get_by_label("size").fill("100")
    press(page, "How sure is it?")
    expect(page.locator("#sure-answer")).to_contain_text("100 randomly thinned networks")
    press(page, "Why?")
    expect(page.locator("#why-answer .label")).to_have_count(len(FEATURES))
    row = json.loads(page.locator("#commands pre > code").first.inner_text().split("-d ")[1].strip("'"))
    known = answer(service, **{**row, "explain": True})["explanations"]
    strongest = max(known["contributions"][0].items(), key=lambda item: abs(item[1]))[0]
    expect(page.locator("#why-answer .label").first).to_have_text(strongest)
    expect(page.locator("#why-answer")).to_contain_text("An average row gets")
    keep(page, "predict-explained")
    assert grave_violations(page) == []
    page.get_by_label("size").fill("120")
    press(page, "How sure is it?")
    expect(page.locator("#sure-answer")).not_to_be_empty()
    expect(page.locator("#why-answer")).to_be_empty()  # it was about another row


def test_classes_have_bars_and_many_columns_a_box(visit: Callable[[str], Page], service: Service, written: str) -> None:
    page = visit(f"/dashboard/models/{written}/predict")
    expect(page.locator("[data-place]")).to_have_count(50)
    whole = page.get_by_label("The whole row")
    press(page, "Predict")
    expect(page.locator("#answer meter")).to_have_count(10)
    row = json.loads(whole.input_value())
    known = service.client.post("/predict", json={"model": written, "instances": [row]}).json()
    expect(page.locator("#answer strong")).to_have_text(str(known["predictions"][0]))
    page.locator("[data-place='0']").fill("9")
    assert json.loads(whole.input_value())["pixel_0_0"] == 9
    whole.fill(json.dumps({**row, "pixel_0_1": 7, "pixel_7_7": 16}))
    whole.blur()
    expect(page.locator("[data-place='1']")).to_have_value("7")
    whole.fill("[1, 2")
    press(page, "Predict")
    assert whole.evaluate("(box) => box.validity.customError") is True


def test_network_without_dropout_cannot_be_doubted(visit: Callable[[str], Page], written: str) -> None:
    page = visit(f"/dashboard/models/{written}/predict")
    expect(page.get_by_role("button", name="How sure is it?")).to_be_disabled()
    expect(page.locator("#sure-hint")).to_contain_text("without dropout")


def test_version_is_chosen(visit: Callable[[str], Page], house: str) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    expect(page.get_by_label("Version", exact=True)).to_contain_text(f"{DEFAULTS}: 2")
    with page.expect_navigation():
        page.get_by_label("Version", exact=True).select_option("version 1")
    press(page, "Predict")
    expect(page.locator("#answer")).to_contain_text("Version 1 answered")


def test_lines_ask_the_same(visit: Callable[[str], Page], service: Service, house: str) -> None:
    page = visit(f"/dashboard/models/{house}/predict?version=1")
    page.get_by_label("size").fill("77")
    press(page, "Predict")
    known = page.locator("#answer strong").inner_text()
    curl, program, shell = page.locator("#commands pre > code").all_text_contents()
    ran = subprocess.run(["bash", "-ec", curl], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert shown(json.loads(ran.stdout)["predictions"][0]) == known
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert shown(float(ran.stdout.strip("[]\n"))) == known
    shell = f'selfnorm() {{ "{sys.executable}" -m service.cli "$@"; }}\n{shell}'
    ran = subprocess.run(["bash", "-ec", shell], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert shown(float(ran.stdout.strip().splitlines()[-1].split(",")[-1])) == known


def test_small_csv_comes_back_with_its_answers(
    visit: Callable[[str], Page], service: Service, house: str, tmp_path: Path
) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    send(page, "rows.csv", 'city,size,flat,since\r\nZug,50,true,2019-04-01\r\n\r\n"Ba""sel",,false,31.01.2020\r\n')
    expect(page.locator("#file-answer")).to_contain_text("2 rows answered, with 1 warning about odd rows")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download CSV").click()
    assert coming.value.suggested_filename == "rows-predictions.csv"
    instances = [
        {"city": "Zug", "size": 50, "flat": True, "since": "2019-04-01"},
        {"city": 'Ba"sel', "size": None, "flat": False, "since": "31.01.2020"},
    ]
    first, second = answer(service, instances=instances)["predictions"]
    assert coming.value.path().read_text() == (
        f'city,size,flat,since,prediction\nZug,50,true,2019-04-01,{first}\n"Ba""sel",,false,31.01.2020,{second}\n'
    )
    expect(page.locator("#file-answer thead th").first).to_have_text("prediction")


def test_file_with_other_columns_is_answered_by_a_worker(
    visit: Callable[[str], Page], service: Service, house: str, page_faults: Faults
) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    rows = [f"{row};{30 + row};Bern;true;{row + 1:02d}.05.2010" for row in range(25)]
    send(page, "other.csv", "\n".join(["no;size;city;flat;since", *rows]) + "\n")
    expect(page.locator("#problems")).to_contain_text("the model does not take")
    press(page, "Send it to a worker")
    expect(page.locator("#file-answer")).to_contain_text("25 rows answered")
    expect(page.locator("#problems")).to_be_empty()
    expect(page.locator("#file-answer tbody tr")).to_have_count(20)
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download CSV").click()
    lines = coming.value.path().read_text().splitlines()
    assert lines[0].replace('"', "") == "no,size,city,flat,since,prediction"
    row = {"size": 30, "city": "Bern", "flat": True, "since": "01.05.2010"}
    assert float(lines[1].split(",")[-1]) == pytest.approx(answer(service, instances=[row])["predictions"][0])
    expect(page.get_by_role("link", name="other", exact=True)).to_be_visible()
    page_faults.forget("422")


def test_workers_answer_is_found_again(visit: Callable[[str], Page], house: str, page_faults: Faults) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    page.route("**/predictions/*", lambda route: route.abort(), times=2)
    send(page, "lost.ndjson", '{"size": 50, "city": "Zug", "flat": true, "since": "2019-04-01"}\n')
    expect(page.locator("#file-answer")).to_contain_text("1 rows answered")
    answered = page.locator("#file-answer tbody tr").all_text_contents()
    page.reload()
    expect(page.locator("#file-answer tbody tr")).to_have_text(answered)
    send(page, "now.csv", "city,size,flat,since\nZug,50,true,2019-04-01\n")
    expect(page.get_by_role("link", name="lost", exact=True)).to_have_count(0)
    expect(page).not_to_have_url(re.compile("prediction="))
    page_faults.forget("ERR_FAILED")


def test_file_in_another_encoding_is_refused(visit: Callable[[str], Page], house: str, page_faults: Faults) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    rows = "city,size,flat,since\nZürich,50,true,2019-04-01\n".encode("latin-1")
    page.locator(".drop input").set_input_files({"name": "old.csv", "mimeType": "", "buffer": rows})
    expect(page.locator("#problems")).to_contain_text("old.csv is not UTF-8")
    expect(page.locator("#file-answer")).to_be_empty()
    page_faults.forget("422")


def test_file_that_no_worker_can_answer_leaves_nothing(
    visit: Callable[[str], Page], service: Service, house: str, page_faults: Faults
) -> None:
    page = visit(f"/dashboard/models/{house}/predict")
    before = service.client.get("/datasets").json()["items"]
    send(page, "wrong.ndjson", '{"size": "large", "city": "Bern"}\n')
    expect(page.locator("#problems")).to_contain_text("size")
    assert service.client.get("/datasets").json()["items"] == before
    page_faults.forget("422")
