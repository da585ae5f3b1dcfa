"""Where one starts, and data sets, in a browser: bring a table in, look at it, change it, take it away again."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.api_process import api_process
from tests.browser.axe import grave_violations
from tests.browser.conftest import Faults
from tests.browser.pictures import keep, overflow
from tests.patience import PATIENCE_SECONDS
from tests.processes import Service

SHOP = "id,size,city,price\n" + "".join(
    f"{row},{row * 3 % 50},{('Bern', 'Basel', '')[row % 3]},{row * 7 % 40}.5\n" for row in range(60)
)

HOSTILE_HEADER = 'net,"gro\'s ""s""",kind\n'


@pytest.fixture
def beginning(stocked_sqlite: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a service that has never trained anything, and has no worker."""
    shutil.copy(stocked_sqlite, tmp_path / "selfnorm.db")
    with api_process(tmp_path / "selfnorm.db", tmp_path) as process:
        yield str(process.client.base_url)


@pytest.fixture(scope="module")
def shop(service: Service) -> str:
    return stored(service, SHOP, "shop")


def stored(service: Service, content: str, name: str) -> str:
    return service.upload(name, content)


def choose(page: Page, name: str, content: str) -> None:
    """Choose a file, as the keyboard does."""
    page.locator(".drop input").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content.encode()})


def test_beginner_is_taught_and_trains_with_one_press(beginning: str, page: Page) -> None:
    page.goto(beginning)
    expect(page.locator(".steps h2")).to_have_text(["Bring a table", "Press train", "Look, and predict"])
    keep(page, "home-beginning")
    assert overflow(page) <= 0
    assert grave_violations(page) == []
    page.get_by_role("button", name="Train on iris").click()
    page.wait_for_url(re.compile(r"/dashboard/jobs/[0-9a-f]+$"))
    job = page.url.rpartition("/")[2]
    page.goto(beginning)
    expect(page.locator("#jobs [data-job]")).to_contain_text(["iris"])
    expect(page.locator("#live")).to_have_text("live")
    assert page.request.post(f"{beginning}/jobs/{job}/cancel").ok
    assert page.request.delete(f"{beginning}/jobs/{job}").ok
    expect(page.locator("#jobs tr")).to_have_text(["No job is kept any more; the models that they made are below."])


def test_job_that_is_submitted_elsewhere_comes_into_the_list(visit: Callable[[str], Page], service: Service) -> None:
    first = service.post("/jobs", dataset="iris", model="listed", training={"epochs": 1})
    page = visit("/")
    expect(page.locator("#live")).to_have_text("live")
    job = service.post("/jobs", dataset="iris", model="listed", training={"epochs": 2})
    expect(page.locator("#jobs tr").first).to_have_attribute("data-job", job["id"])
    for made in (first, job):
        row = page.locator(f"#jobs [data-job='{made['id']}']")
        expect(row).to_contain_text("succeeded")
        expect(row).to_contain_text("validation accuracy")


def test_file_that_is_chosen_is_named_and_opened(visit: Callable[[str], Page], service: Service) -> None:
    page = visit("/dashboard/datasets")
    page.get_by_text("Options for the next upload").click()
    page.get_by_label("Name", exact=True).fill("chosen")
    page.get_by_label("Words for a missing cell").fill("-1, none")
    page.locator(".drop input").focus()
    choose(page, "any.csv", "a,b\n1,none\n-1,x\n3,\n4,x\n")
    expect(page.locator("h1")).to_have_text("chosen")
    made = service.client.get(page.url.replace("/dashboard", "")).json()
    assert [column["missing"] for column in made["columns"]] == [1, 2]


def test_file_that_is_refused_is_explained_in_place(visit: Callable[[str], Page], page_faults: Faults) -> None:
    page = visit("/dashboard/datasets")
    choose(page, "ragged.csv", "a,b\n1,2\n1,2,3\n")
    expect(page.locator("#problems")).to_contain_text("row 2")
    choose(page, "twice.csv", "a,a\n1,2\n")
    expect(page.locator("#problems")).to_contain_text("'a'")
    expect(page.locator("#problems")).not_to_contain_text("row 2")
    choose(page, "empty.csv", "")
    expect(page.locator("#problems")).to_contain_text("empty.csv is empty")
    page.locator(".upload").evaluate("(host) => (host.dataset.maxBytes = '5')")
    choose(page, "large.csv", "a,b\n1,2\n")
    expect(page.locator("#problems")).to_contain_text("at most 5 bytes are taken")
    page_faults.forget("422")
    page_faults.forget("at most 5 bytes")


def test_folder_that_is_dropped_is_no_file(visit: Callable[[str], Page], page_faults: Faults) -> None:
    page = visit("/dashboard/datasets")
    page.evaluate(
        """() => {
          const carried = new DataTransfer();
          for (const name of ["a.csv", "b.csv"]) carried.items.add(new File(["x"], name));
          document.body.dispatchEvent(new DragEvent("dragenter", {dataTransfer: carried, bubbles: true}));
          window.wasMarked = document.querySelector(".drop").classList.contains("over");
          const options = {dataTransfer: carried, bubbles: true, cancelable: true};
          window.wentOn = document.body.dispatchEvent(new DragEvent("drop", options));
        }"""
    )
    expect(page.locator("#problems")).to_contain_text("one file at a time; got 2")
    assert page.evaluate("[window.wasMarked, window.wentOn]") == [True, False]
    expect(page.locator(".drop")).not_to_have_class(re.compile("over"))
    page_faults.forget("one file at a time")


def test_kind_is_changed_in_the_table_and_a_refusal_is_said(
    visit: Callable[[str], Page], service: Service, page_faults: Faults
) -> None:
    made = stored(service, SHOP, "kinds")
    page = visit(f"/dashboard/datasets/{made}")
    expect(page.get_by_text("its numbers look like an identifier")).to_have_count(2)
    with page.expect_navigation():
        page.get_by_label("Kind of id").select_option("numeric")
    expect(page.get_by_text("its numbers look like an identifier")).to_have_count(0)
    expect(page.get_by_label("Kind of id")).to_be_focused()
    page.get_by_label("Kind of city").select_option("numeric")
    expect(page.locator("#problems")).to_contain_text("is stored as text")
    expect(page.get_by_label("Kind of city")).to_have_value("categorical")
    kinds = {column["name"]: column["kind"] for column in service.client.get(f"/datasets/{made}").json()["columns"]}
    assert kinds["id"] == "numeric"
    assert kinds["city"] == "categorical"
    page_faults.forget("422")


def test_data_set_is_renamed_and_deleted(visit: Callable[[str], Page], service: Service) -> None:
    made = stored(service, SHOP, "before")
    page = visit(f"/dashboard/datasets/{made}")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("after")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("after")
    assert service.client.get(f"/datasets/{made}").json()["name"] == "after"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Leave it").last.click()
    assert service.client.get(f"/datasets/{made}").status_code == 200
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/dashboard/datasets")
    assert service.client.get(f"/datasets/{made}").status_code == 404


def test_rows_come_when_one_gets_to_them_and_more_on_demand(visit: Callable[[str], Page], shop: str) -> None:
    page = visit(f"/dashboard/datasets/{shop}")
    page.locator("#rows").scroll_into_view_if_needed()
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(20)
    assert rows.nth(2).locator("td").all_text_contents() == ["2", "6", "\u2013", "14.5"]
    page.get_by_role("button", name="More rows").click()
    expect(rows).to_have_count(40)
    page.get_by_role("button", name="More rows").click()
    expect(rows).to_have_count(60)
    expect(page.get_by_role("button", name="More rows")).to_be_hidden()


def test_columns_are_found_among_few_and_among_thousands(visit: Callable[[str], Page], shop: str) -> None:
    page = visit(f"/dashboard/datasets/{shop}")
    page.get_by_label("Find columns").fill("CI")
    expect(page.locator("#columns-table tbody tr:visible")).to_have_count(1)
    expect(page.locator("#found")).to_have_text("1 of 4 columns.")
    page = visit("/dashboard/datasets/fashion_mnist")
    expect(page.locator("#found")).to_contain_text("The first 200 of 785 columns")
    expect(page.get_by_text("They are not on this machine")).to_be_visible()
    page.get_by_label("Find columns").fill("label")
    page.keyboard.press("Enter")
    expect(page.locator("#columns-table tbody tr")).to_have_count(1)
    expect(page.get_by_label("What is to be predicted?")).to_have_value("label")


def test_target_goes_into_the_link_the_lines_and_the_warning(visit: Callable[[str], Page], service: Service) -> None:
    rows = "".join(f"{row * 13 % 31},{row * 13 % 31 * 2},{row % 4}\n" for row in range(40))
    made = stored(service, HOSTILE_HEADER + rows, "leaky")
    page = visit(f"/dashboard/datasets/{made}")
    expect(page.locator("#leak")).to_be_empty()
    page.get_by_label("What is to be predicted?").select_option('gro\'s "s"')
    expect(page.locator("#leak")).to_contain_text("probably a leak: net")
    link = page.get_by_role("link", name="Choose a network").get_attribute("href")
    assert link == f"/dashboard/jobs/new?dataset={made}&target=gro%27s+%22s%22"
    page.get_by_role("tab", name="Python").click()
    expect(page.locator("#commands pre:visible")).to_contain_text('client.train("leaky.csv", target="gro\'s \\"s\\"")')


def test_curl_lines_bring_the_table_in_and_train_on_it(
    visit: Callable[[str], Page], service: Service, shop: str, tmp_path: Path
) -> None:
    page = visit(f"/dashboard/datasets/{shop}")
    page.get_by_label("What is to be predicted?").select_option("price")
    page.locator("#commands").get_by_role("button", name="Copy").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('curl')")
    lines = page.evaluate("navigator.clipboard.readText()")
    (tmp_path / "shop.csv").write_text(SHOP)
    ran = subprocess.run(
        ["bash", "-ec", lines], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    job = re.search(r'"id":"([0-9a-f]+)"', ran.stdout)
    assert job is not None, ran.stdout
    spec = service.post(f"/jobs/{job.group(1)}/cancel")["spec"]
    assert spec["target"] == "price"
    assert service.client.get(f"/datasets/{spec['dataset']}").json()["name"] == "shop"
    assert spec["dataset"] != shop
