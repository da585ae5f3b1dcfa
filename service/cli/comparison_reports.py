"""What is said of a comparison: a table of its arms, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.cli.printing import put, put_facts, put_table
from service.cli.wording import measure, names

if TYPE_CHECKING:
    from service.api.views.comparisons import ComparisonView
    from service.domain.comparison_arms import ArmResult, Measured
    from service.domain.comparison_claims import Claim

MOST_METRICS = 3


def put_comparison(found: ComparisonView) -> None:
    """Print what a comparison has come to so far."""
    done = found.progress
    put_facts(
        [
            ("comparison", found.id),
            ("state", f"{found.state}, {done.finished_jobs}/{done.total} jobs have ended"),
            ("data set", found.spec.dataset),
            ("target", found.spec.target),
            ("seeds", names([str(seed) for seed in found.spec.seeds])),
            ("reference", found.reference),
            *(("warning", warning) for warning in found.warnings),
        ]
    )
    if found.result is None:
        return
    metrics = _metrics(found)
    put("")
    headings = ("arm", *metrics, "best epoch", "epochs saved", "seconds", "failed")
    put_table(headings, (list(_cells(arm, metrics)) for arm in found.result.arms), empty="no arms")
    put("")
    put_facts([("verdict", found.verdict), *(("claim", _claim_words(claim)) for claim in found.result.claims or [])])


def _claim_words(claim: Claim) -> str:
    held = {True: "holds", False: "does not hold", None: "not measured"}[claim.holds]
    return f"{claim.claim}: {held}; {claim.detail}"


def _metrics(found: ComparisonView) -> list[str]:
    """Return the metrics to show: the primary one first, then others of the same part of the rows."""
    assert found.result is not None
    primary = found.result.metric
    part = primary.startswith("val_")
    known = dict.fromkeys(name for arm in found.result.arms for name in arm.metrics)
    return [primary, *(name for name in known if name != primary and name.startswith("val_") == part)][:MOST_METRICS]


def _cells(arm: ArmResult, metrics: list[str]) -> Iterator[str]:
    yield arm.arm
    for name in metrics:
        yield _spread(arm.metrics.get(name))
    yield _spread(arm.best_epoch)
    saved = None if arm.epochs_saved is None else arm.epochs_saved.mean
    yield "" if saved is None else f"{saved:.0%}"
    yield _spread(arm.seconds)
    yield str(arm.failed) if arm.failed else ""


def _spread(measured: Measured | None) -> str:
    """Say the mean over the seeds, and how far they are apart."""
    if measured is None or measured.mean is None:
        return ""
    deviation = measured.standard_deviation
    return measure(measured.mean) if deviation is None else f"{measure(measured.mean)} ± {measure(deviation)}"
