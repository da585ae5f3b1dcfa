"""Users of the service in a run: they submit, cancel, pause and resume, never give up, and write down every answer."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2 as httpx

from service.domain.jobs import FINAL_STATES, JobState
from tests.chaos.history import Call, History
from tests.patience import PATIENCE_SECONDS

Spec = Mapping[str, Any]

TIMEOUT_SECONDS = 15.0
TICK_SECONDS = 0.15
TRY_AGAIN = (409, 503)
"""Refusals that pass: an equal request is still being served, or a part is down."""
STILL_RUNNING = "request_still_running"


class Client:
    """A thread of users; what they do is drawn from a seed."""

    def __init__(
        self, addresses: Sequence[str], history: History, seed: int, specs: Mapping[str, Spec], backlog: int
    ) -> None:
        """``backlog``: so many unfinished jobs are there at any time while it submits."""
        self.unanswered: list[str] = []
        """Requests that nobody answered until the users lost their patience."""
        self._history = history
        self._random = random.Random(seed)
        self._specs = specs
        self._backlog = backlog
        self._sessions = [httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS) for address in addresses]
        self._states: dict[str, str] = {}
        self._submits, self._over = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="users")
        self._running: Future[None] | None = None

    def __enter__(self) -> "Client":
        """Begin."""
        self._submits.set()
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once."""
        self._stop()
        self.close()

    def close(self) -> None:
        """Let go of every connection."""
        self._pool.shutdown()
        for session in self._sessions:
            session.close()

    def undisturbed(self, seconds: float) -> list[str]:
        """Submit every spec once and wait for the ends; return the jobs' ids. To be called before it begins."""
        ids = [self.submit(name, f"undisturbed-{name}") for name in self._specs]
        self.wait(seconds)
        return [job_id for job_id in ids if job_id is not None]

    def stop_submitting(self) -> None:
        """Ask for nothing more, and resume what was paused but for one job in three."""
        self._stop()
        for job_id in sorted(self._history.paused):
            if self._random.random() < 2 / 3:
                self._resume(job_id)

    def wait(self, seconds: float) -> list[str]:
        """Wait until every job has ended or is left paused; return those that have not."""
        deadline = time.monotonic() + seconds
        while (left := self._open()) and time.monotonic() < deadline:
            for job_id in left:
                self._look(job_id)
            time.sleep(TICK_SECONDS)
        return left

    def submit(self, spec: str, key: str) -> str | None:
        """Submit a spec under a key until it is answered; return the job's id."""
        self._history.ask(key, spec)
        body = {**self._specs[spec], "tags": [spec, key], "model": f"chaos-{spec}"}
        manner = self._random.random()
        if manner < 0.15:  # a user who cuts the connection, at any point
            self._send("POST", "/jobs", key, body, timeout=self._random.uniform(0.001, 0.05))
        if manner > 0.85:  # one who sends everything twice
            with ThreadPoolExecutor(2) as pool:
                for sent in [pool.submit(self._insist, "POST", "/jobs", key, body) for _ in range(2)]:
                    call = sent.result()
        else:
            call = self._insist("POST", "/jobs", key, body)
        job_id = self._told(call)
        if job_id is not None and 0.7 < manner < 0.8:  # one who is not sure whether it was sent
            self._insist("POST", "/jobs", key, body)
        return job_id

    def _stop(self) -> None:
        self._submits.clear()
        self._over.set()
        if self._running is not None:
            self._running.result()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(TICK_SECONDS):
            left = self._open()
            if self._submits.is_set() and len(left) < self._backlog:
                number += 1
                self.submit(self._random.choice(list(self._specs)), f"job-{number}")
            elif left:
                self._bother(self._random.choice(left))
            paused = sorted(self._history.paused)
            if paused and self._random.random() < 0.1:
                self._resume(self._random.choice(paused))

    def _bother(self, job_id: str) -> None:
        """Look at a job, and now and then change one's mind about it."""
        wish = self._random.random()
        if wish < 0.001:
            self._told(self._insist("POST", f"/jobs/{job_id}/cancel"))
        elif wish < 0.004:
            self._history.paused.add(job_id)
            call = self._insist("POST", f"/jobs/{job_id}/pause")
            if call is not None and call.status == httpx.codes.CONFLICT:
                self._history.paused.discard(job_id)
            self._told(call)
        else:
            self._look(job_id)

    def _resume(self, job_id: str) -> None:
        call = self._insist("POST", f"/jobs/{job_id}/resume")
        if call is not None:
            self._history.paused.discard(job_id)
            self._told(call)

    def _look(self, job_id: str) -> None:
        self._told(self._send("GET", f"/jobs/{job_id}"))

    def _open(self) -> list[str]:
        """Return the jobs that have not ended, as far as anybody was told, but for those that are paused."""
        at_rest = FINAL_STATES | {JobState.PAUSED}
        return [
            job_id
            for job_id, state in list(self._states.items())
            if state not in (FINAL_STATES if job_id not in self._history.paused else at_rest)
        ]

    def _told(self, call: Call | None) -> str | None:
        """Take in what an answer says of a job; return its id."""
        if call is None or call.answer is None or "id" not in call.answer:
            return None
        job_id: str = call.answer["id"]
        if not call.is_replayed or job_id not in self._states:
            self._states[job_id] = call.answer["state"]
        return job_id

    def _insist(self, method: str, path: str, key: str | None = None, body: Spec | None = None) -> Call | None:
        """Send a request until it is answered; None where that took longer than anybody has patience."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            call = self._send(method, path, key, body)
            if call.status is not None and call.status not in TRY_AGAIN:
                return call
            if call.status == httpx.codes.CONFLICT and (call.answer or {}).get("code") != STILL_RUNNING:
                return call
            time.sleep(2 * TICK_SECONDS)
        self.unanswered.append(f"{method} {path} {key or ''}".strip())
        return None

    def _send(
        self, method: str, path: str, key: str | None = None, body: Spec | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> Call:
        """Send a request once and write down what comes of it."""
        session = self._random.choice(self._sessions)
        headers = {} if key is None else {"Idempotency-Key": key}
        began = time.monotonic()
        try:
            answer = session.request(method, path, json=body, headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            return self._history.add(Call(began, time.monotonic(), method, path, key, error=repr(error)))
        return self._history.add(
            Call(
                began,
                time.monotonic(),
                method,
                path,
                key,
                answer.status_code,
                answer.headers.get("Retry-After"),
                "Idempotent-Replayed" in answer.headers,
                _told_of(answer),
            )
        )


def _told_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {"code": "no_json", "detail": answer.text[:200]}
    if "code" in content:
        return {"code": content["code"], "detail": content["detail"]}
    return {
        "id": content["id"],
        "state": content["state"],
        "attempts": content["attempts"],
        "epoch": content["progress"]["epoch"],
    }
