"""Celery's door to what this app does in the background."""

from __future__ import annotations

from celery import shared_task

from as2certs.clock import database_now
from identities.certificates import generation


@shared_task(ignore_result=True)
def generate_requested() -> None:
    """Generate all keys that were asked for, the longest waiting first."""
    while generation.generate_next(now=database_now()):
        pass
