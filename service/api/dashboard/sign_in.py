"""/sign-in, /sign-out: how a browser shows a key, where the service needs one.

A cookie keeps the key itself for some hours, out of reach of scripts: it is checked like any other, so that it opens
nothing any more as soon as the key is revoked, and whoever can read the database cannot make one.
"""

from http import HTTPStatus
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.types import Scope

from service.api.dashboard.pages import PageRoute, page
from service.api.dependencies import ServicesDependency
from service.api.gate.credentials import all_of, cookie_name, cookie_of, site_of
from service.api.gate.scopes import public
from service.api.gate.sites import OTHERS
from service.api.services import Services
from service.domain.key_errors import InvalidKey
from service.domain.quotas import TooManyWrongKeys

router = APIRouter(route_class=PageRoute, include_in_schema=False)

COOKIE_SECONDS = 12 * 3600
START = "/"
PAGES = "/dashboard"


@router.get("/sign-in")
@public
async def sign_in_form(request: Request, services: ServicesDependency, to: str = START) -> Response:
    """Show the form; who has signed in already, or need not, is led on."""
    held = cookie_of(request.scope["headers"], request.scope["scheme"])
    if not services.authentication or (held is not None and await _opens(services, held, request)):
        return RedirectResponse(_own(to), HTTPStatus.SEE_OTHER)
    return page("sign-in.html", to=_own(to), refused=False)


@router.post("/sign-in")
@public
async def sign_in(request: Request, services: ServicesDependency) -> Response:
    """Take a key, and keep it in a cookie."""
    async with request.form(max_files=0, max_fields=8) as form:
        key, to = str(form.get("key", "")).strip(), _own(str(form.get("to", START)))
    if not services.authentication:
        return RedirectResponse(to, HTTPStatus.SEE_OTHER)
    try:
        await services.keys.admit(key.encode(), request.scope)
    except InvalidKey:
        headers = {"WWW-Authenticate": 'Bearer realm="selfnorm", error="invalid_token"'}
        return page("sign-in.html", HTTPStatus.UNAUTHORIZED, headers, to=to, refused=True)
    answer = RedirectResponse(to, HTTPStatus.SEE_OTHER)
    _set_cookie(answer, request, key, COOKIE_SECONDS)
    return answer


@router.post("/sign-out")
@public
async def sign_out(request: Request) -> Response:
    """Forget the key."""
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    _set_cookie(answer, request, "", 0)
    return answer


async def _opens(services: Services, key: bytes, request: Request) -> bool:
    try:
        await services.keys.admit(key, request.scope)
    except (InvalidKey, TooManyWrongKeys):
        return False
    return True


def page_for_stranger(scope: Scope) -> Response | None:
    """Return what a browser is shown that asks for a page without a key; None where it is no page.

    A browser leaves the cookie out where a link of another site has led here. The page it gets then loads the same
    address again, as one of this site.
    """
    is_page = scope["path"] == START or scope["path"].startswith("/dashboard")
    accept = b",".join(all_of(scope["headers"], b"accept"))
    if not is_page or scope["method"] not in ("GET", "HEAD") or b"text/html" not in accept:
        return None
    query = scope["query_string"].decode("latin-1")
    to = quote(scope["path"]) + (f"?{query}" if query else "")
    if site_of(scope["headers"]) in OTHERS:
        return page("returning.html", to=_own(to))
    return RedirectResponse(f"/sign-in?to={quote(_own(to), safe='')}", HTTPStatus.SEE_OTHER)


def _set_cookie(answer: Response, request: Request, value: str, seconds: int) -> None:
    scheme = request.scope["scheme"]
    answer.set_cookie(
        cookie_name(scheme).decode(),
        value,
        max_age=seconds,
        path="/",
        secure=scheme == "https",
        httponly=True,
        samesite="strict",
    )


def _own(address: str) -> str:
    """Return where to go on: a page of this service, never another's."""
    path = address.partition("?")[0].partition("#")[0]
    is_own = path in (START, PAGES) or path.startswith(f"{PAGES}/")
    is_plain = address.isprintable() and address.isascii() and "\\" not in address
    # A browser goes up by such a step, also where it is written %2e%2e.
    has_dots = any(step in (".", "..") for step in unquote(path).replace("\\", "/").split("/"))
    return address if is_own and is_plain and not has_dots else START
