"""The root of a training process: what Celery's parent spawns, warms up and hands job ids to."""

import os
import sys
from functools import cache

from celery import shared_task
from celery.signals import worker_process_init

from service.settings import Settings
from service.storage.database import Database
from service.task_queue import TRAIN_TASK

NAME_VARIABLE = "SELFNORM_WORKER_NAME"
"""Set by the parent: the name under which this worker holds leases."""
READY_LINE = "worker ready"
"""Printed once TensorFlow is loaded; the supervisor of the embedded topology waits for it."""


@shared_task(name=TRAIN_TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # Celery ships no types
def train(job_id: str) -> None:
    """Run a job."""
    from workers import attempt  # TensorFlow is for this process only, not for its parent

    settings = _settings()
    attempt.run(_database(), job_id, os.environ[NAME_VARIABLE], settings.datasets_dir, settings.resident_bytes)


@worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery ships no types
def _warm_up(**_: object) -> None:
    """Import TensorFlow before the first job, so that it need not wait."""
    from workers import attempt, environment  # noqa: F401  # TensorFlow is for this process only

    environment.configure(_settings().threads)
    print(READY_LINE, file=sys.__stdout__, flush=True)  # for the supervisor


@cache
def _settings() -> Settings:
    return Settings()


@cache
def _database() -> Database:
    return Database(_settings().database_url)
