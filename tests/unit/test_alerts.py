"""Alert rules and the dashboard: every expression can be read, and asks only for what /metrics tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from service import reference

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/selfnorm.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"up": {"job", "instance"}}
LABELS = {series: {*metric.labels, "job", "instance"} for metric in reference.metrics() for series in metric.series}
LABELS |= {series: {*labels, "le"} for series, labels in LABELS.items() if series.endswith("_bucket")} | OF_PROMETHEUS
INTERVAL = "$__rate_interval"
PROMQL = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def expressions() -> Iterator[str]:
    for rule in RULES:
        yield rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"].replace(INTERVAL, "5m")
    for note in DASHBOARD["annotations"]["list"]:
        yield note["expr"]


def selectors(expression: str) -> list[Any]:
    found: list[Any] = []

    def keep(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), pre_visit=keep)
    return found


@pytest.mark.parametrize("expression", list(dict.fromkeys(expressions())))
def test_expression_asks_only_for_what_is_told(expression: str) -> None:
    asked = selectors(expression)
    assert asked
    for selector in asked:
        assert selector.name in LABELS, f"/metrics tells nothing of {selector.name}"
        named = {matcher.name for matcher in selector.matchers.matchers}
        assert named <= LABELS[selector.name], f"{selector.name} has no label {named - LABELS[selector.name]}"
    known = set.union(*(LABELS[selector.name] for selector in asked))
    for names in PROMQL.findall(expression):
        assert {name.strip() for name in names.split(",")} <= known


def test_expression_that_cannot_be_read_or_asks_for_nothing_is_found() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        selectors("sum(rate(a[5m])")
    with pytest.raises(AssertionError):
        test_expression_asks_only_for_what_is_told("sum by (nothing) (selfnorm_jobs)")
    with pytest.raises(AssertionError):
        test_expression_asks_only_for_what_is_told('selfnorm_jobs{nothing="x"}')


def test_everything_that_is_told_is_on_the_dashboard() -> None:
    shown = {
        selector.name
        for panel in PANELS
        for target in panel["targets"]
        for selector in selectors(target["expr"].replace(INTERVAL, "5m"))
    }
    for metric in reference.metrics():
        if metric.name != "selfnorm_build_info":  # which is the dashboard's annotation
            assert metric.series & shown, f"{metric.name} is on no panel"


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_rule_says_how_urgent_it_is_and_leads_to_its_part_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["alert"].startswith("Selfnorm")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert document == "docs/operations.md"
    assert anchor == rule["alert"].lower()
    assert anchor in _anchors(ROOT / document)


def test_rules_have_names_of_their_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_dashboard_is_whole() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["uid"] == "selfnorm"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels lie on each other"
    assert max(x for x, _ in cells) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in PANELS)


# No package index has promtool; everywhere else each expression is parsed, and its names are checked, above.
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus, which is not here")
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as they are made of them everywhere."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
