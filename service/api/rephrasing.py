"""Errors as other protocols say them: whatever goes wrong is put into the shape that their clients read."""

import orjson
from fastapi import Response

from service.api.errors import PROBLEM_TYPE

KEPT_HEADERS = ("retry-after", "x-request-id", "www-authenticate")
MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    413: "BAD_REQUEST",
    503: "TEMPORARILY_UNAVAILABLE",
}


class Refused(Exception):
    """A request that a protocol refuses, in its own words."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers
        super().__init__(text)


def rephrase(path: str, problem: Response) -> Response:
    """Return an error of the application in the shape of the protocol that its address belongs to."""
    if problem.headers.get("content-type") != PROBLEM_TYPE or not path.startswith(("/v1/", "/v2", "/invocations")):
        return problem
    refused = as_refused(problem)
    write = mlflow_error if path == "/invocations" else error_text
    content = write(refused.status, str(refused))
    return Response(content, refused.status, refused.headers, media_type="application/json")


def as_refused(problem: Response) -> Refused:
    """Take status, text and headers from an error as native routes have it."""
    kept = {name: value for name, value in problem.headers.items() if name in KEPT_HEADERS}
    return Refused(problem.status_code, orjson.loads(problem.body)["detail"], kept)


def error_text(_status: int, text: str) -> bytes:
    """Return an error as TensorFlow Serving and the Open Inference Protocol have it."""
    return orjson.dumps({"error": text})


def mlflow_error(status: int, text: str) -> bytes:
    """Return an error as MLflow's scoring server has it."""
    return orjson.dumps({"error_code": MLFLOW_CODES.get(status, "INTERNAL_ERROR"), "message": text})
