"""Puts the pages into the application."""

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response
from fastapi.responses import RedirectResponse

from service.api.dashboard import assets, chart_data, comparisons, datasets, home, job, jobs, live, models, sign_in
from service.api.dashboard.pages import PageRoute
from service.api.dependencies import database_answers
from service.api.gate.scopes import needs
from service.domain.keys import Scope

nothing = APIRouter(prefix="/dashboard", route_class=PageRoute, include_in_schema=False)


@nothing.get("")
@nothing.get("/")
@needs(Scope.READ)
def start() -> Response:
    """Lead to where one starts."""
    return RedirectResponse("/")


@nothing.get("/{path:path}")
@needs(Scope.READ)
def nowhere() -> Response:
    """Say that there is no such page."""
    raise HTTPException(404)


def install(app: FastAPI) -> None:
    """Add every page; each of them reads the database."""
    app.include_router(assets.router)
    app.include_router(sign_in.router)
    for module in (home, datasets, models, jobs, live, job, chart_data, comparisons):
        app.include_router(module.router, dependencies=[Depends(database_answers)])
    app.include_router(job.readings, dependencies=[Depends(database_answers)])
    app.include_router(nothing)
