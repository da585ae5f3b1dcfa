"""Every page, wide and narrow, light and dark: nothing sticks out, axe-core finds nothing grave, a picture is kept."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.axe import grave_violations
from tests.browser.pictures import SCHEMES, SIZES, keep, overflow
from tests.processes import Service

PAGES = {
    "home": "/",
    "datasets": "/dashboard/datasets",
    "dataset": "/dashboard/datasets/wine",
    "jobs": "/dashboard/jobs",
    "job-new": "/dashboard/jobs/new?dataset=wine",
    "job": "/dashboard/jobs/{job}",
    "comparisons": "/dashboard/comparisons",
    "comparison-new": "/dashboard/comparisons/new",
    "comparison": "/dashboard/comparisons/{comparison}",
    "models": "/dashboard/models",
    "model": "/dashboard/models/pictured",
    "predict": "/dashboard/models/pictured/predict",
}
TRAINING = {"epochs": 30, "learning_rate": 0.0003, "test_fraction": 0.2}


@pytest.fixture(scope="module")
def made(service: Service) -> dict[str, str]:
    """A job with layers to look at, and a comparison that has ended."""
    network = {"kind": "snn", "hidden_layers": 8, "units": 64}
    spec = {"dataset": "wine", "model": "pictured", "network": network, "training": TRAINING}
    job = service.post("/jobs", **spec)["id"]
    arms = {"snn": network, "regular": {"kind": "mlp", "hidden_layers": 8, "units": 64}}
    asked = {"dataset": "wine", "arms": arms, "seeds": [0, 1], "training": {**TRAINING, "epochs": 8}}
    comparison = service.post("/comparisons", **asked)["id"]
    assert service.wait_for(job)["state"] == "succeeded"
    service.put("/models/pictured/aliases/production", version=1)
    for row in service.client.get(f"/comparisons/{comparison}").json()["jobs"]:
        assert service.wait_for(row["id"])["state"] == "succeeded"
    return {"job": job, "comparison": comparison}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_fit_for_everybody(name: str, visit: Callable[[str], Page], made: dict[str, str]) -> None:
    page = visit(PAGES[name].format(**made))
    page.wait_for_timeout(700)  # for what scripts fetch and draw
    assert len(keep(page, name)) == len(SIZES) * len(SCHEMES)
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) <= 0, f"{width} px"
    for scheme in SCHEMES:
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert grave_violations(page) == [], scheme
