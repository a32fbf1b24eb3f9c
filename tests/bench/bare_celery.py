"""A bare Celery worker: one task that does nothing, and nothing of ours."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("bare", broker=os.environ.get("REDIS_URL"))


@app.task(ignore_result=True)
def nothing() -> None:
    """Do nothing."""
