"""The Celery task that draws reports."""

from __future__ import annotations

from celery import shared_task

from as2certs.clock import database_now
from as2certs.site import report_files


@shared_task(ignore_result=True)
def draw_reports() -> None:
    """Draw all reports that were asked for, the longest waiting first, and remove the old ones."""
    while report_files.draw_next(now=database_now()):
        pass
    report_files.remove_old_reports(now=database_now())
