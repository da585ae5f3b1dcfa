"""/models/{name}/versions/{n}/inputs: what a version was asked, held against what it was trained on."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path

from service.api.dependencies import DatabaseDependency, ServicesDependency
from service.api.gate.scopes import ScopedRoute, needs
from service.api.views.base import View
from service.domain.keys import Scope
from service.domain.models import MAX_VERSION
from service.domain.self_normalization import MEAN_DOMAIN, VARIANCE_DOMAIN
from service.inference.guard import FAR
from service.use_cases.inputs import InputsReport, read_inputs

router = APIRouter(prefix="/models", tags=["models"], route_class=ScopedRoute)


class RecentColumnView(View):
    """The moments of a column's last values, standardized as in training."""

    name: str
    mean: float
    variance: float


class RecentRowsView(View):
    """The last rows, at most 1,000 of each process; mean and variance are over rows and columns."""

    rows: int
    mean: float | None
    variance: float | None
    columns: list[RecentColumnView]
    unseen_share: dict[str, float]
    """By categorical column: the share of cells whose category training did not see."""


class DomainView(View):
    """Where self-normalization holds (Theorem 1 of Klambauer et al. 2017)."""

    mean: tuple[float, float] = MEAN_DOMAIN
    variance: tuple[float, float] = VARIANCE_DOMAIN


class InputsView(View):
    """What a version was asked, by all processes together."""

    model: str
    version: int
    rows: int
    far_above: float = FAR
    """So many standard deviations from the training rows' mean, a value is far outside."""
    far_rows: int
    far: dict[str, int]
    """Far values by encoded column."""
    unseen: dict[str, int]
    """Cells whose category training did not see, by column."""
    recent: RecentRowsView
    domain: DomainView = DomainView()
    warnings: list[str]
    updated_at: datetime | None

    @classmethod
    def of(cls, report: InputsReport) -> "InputsView":
        """Show a report."""
        recent = report.recent
        mean, variance = recent.overall if recent.mean else (None, None)
        columns = zip(recent.columns, recent.mean, recent.variance, strict=True)
        return cls(
            model=report.name,
            version=report.version,
            rows=report.rows,
            far_rows=report.far_rows,
            far=report.far,
            unseen=report.unseen,
            recent=RecentRowsView(
                rows=recent.rows,
                mean=mean,
                variance=variance,
                columns=[RecentColumnView(name=name, mean=mu, variance=nu) for name, mu, nu in columns],
                unseen_share=dict(recent.unseen_share or {}),
            ),
            warnings=list(report.warnings),
            updated_at=report.updated_at,
        )


@router.get("/{name}/versions/{version}/inputs")
@needs(Scope.READ)
def get_inputs(
    name: str,
    version: Annotated[int, Path(ge=1, le=MAX_VERSION)],
    services: ServicesDependency,
    database: DatabaseDependency,
) -> InputsView:
    """Say what a version was asked: far values, new categories, moments of the last rows."""
    return InputsView.of(read_inputs(database, services.serving, name, version))
