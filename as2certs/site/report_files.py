"""Draw reports as PDFs in the background, and keep them for a while: with 2,000 partners, one takes half a minute."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import IntegrityError, models, transaction
from django.db.models import Q

from as2certs.accounts.models import User
from as2certs.background import wake_task
from as2certs.clock import database_now
from as2certs.errors import DomainError
from as2certs.site.rotation_report import build_report
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.execution.version_token import read_page_state
from rotations.models import ReportFile, Rotation

log = logging.getLogger(__name__)

#: How long a worker may go without drawing ``PAGES_PER_UPDATE`` pages; afterwards another one begins anew.
LEASE_DURATION = timedelta(minutes=3)
PAGES_PER_UPDATE = 10
#: A file that was begun so often and never finished is given up: it takes its worker with it.
MAX_ATTEMPTS = 3
#: How long a file is given to whoever asks again while the rotation stays as it is; later, the date on it counts.
REUSED_FOR = timedelta(hours=1)
#: How long a file is kept.
KEPT_FOR = timedelta(days=7)

State = ReportFile.State


def request_report(rotation: Rotation, *, user: User, now: datetime) -> ReportFile:
    """Queue the drawing of a report, unless one is being drawn, or shows the rotation as it is now already."""
    version = read_page_state(rotation, now=now).stored
    shows_it = Q(state=State.DONE, version=version, created_at__gt=now - REUSED_FOR)
    same = Q(state__in=(State.QUEUED, State.WORKING)) | shows_it
    found = rotation.report_files.defer("content").filter(same).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            made = rotation.report_files.create(version=version, created_at=now, created_by=user)
    except IntegrityError:  # somebody else asked at this moment
        return rotation.report_files.defer("content").filter(same).first() or request_report(
            rotation, user=user, now=now
        )
    wake_task("as2certs.site.tasks.draw_reports")
    return made


def latest_report(rotation: Rotation) -> ReportFile | None:
    """Return the report that was asked for last, without its content; None after it was removed."""
    return rotation.report_files.defer("content").first()


def draw_next(*, now: datetime) -> bool:
    """Draw the report that has waited longest, and return whether there was one.

    1. Claim it for ``LEASE_DURATION``, which each few pages extend.
    2. Draw it, outside any transaction.
    3. Store it, unless another worker has claimed it meanwhile.
    """
    file = _claim(now)
    if file is None:
        return False
    try:
        content = _draw(file, now=now)
    except DomainError as error:
        _finish(file, state=State.FAILED, error=str(error))
    except Exception as error:  # whatever the PDF library raises: people have to see it, and it must not be repeated
        log.exception("The report of rotation %s can't be drawn", file.rotation.uid)
        reason = f"It could not be drawn ({type(error).__name__}). The page above has the same content"
        _finish(file, state=State.FAILED, error=f"{reason}; the log of the application says more.")
    else:
        _finish(file, state=State.DONE, content=content)
    return True


def _claim(now: datetime) -> ReportFile | None:
    free = Q(state=State.QUEUED) | Q(state=State.WORKING, lease_until__lt=now)
    for file in ReportFile.objects.defer("content").filter(free).order_by("created_at")[:5]:
        mine = ReportFile.objects.filter(free, pk=file.pk, attempts=file.attempts)
        if file.attempts >= MAX_ATTEMPTS:
            reason = (
                f"It was begun {MAX_ATTEMPTS} times, and its worker ended each time: look at its memory and its log."
            )
            mine.update(state=State.FAILED, error=reason, finished_at=now, lease_until=None)
            continue
        until = now + LEASE_DURATION
        if mine.update(state=State.WORKING, lease_until=until, attempts=file.attempts + 1, pages=0):
            file.attempts += 1
            return file
    return None


def _draw(file: ReportFile, *, now: datetime) -> bytes:
    # Imported here, because fonts and images take 25 MB in each process.
    from as2certs.site.rotation_report_pdf import render_pdf

    rotation = Rotation.objects.select_related(*ROTATION_RELATIONS, "set_up_by", "approved_by").get(pk=file.rotation_id)

    def show_progress(pages: int) -> None:
        if pages % PAGES_PER_UPDATE == 0:
            until = database_now() + LEASE_DURATION
            _mine(file).update(pages=pages, lease_until=until)

    by = str(file.created_by or "a person who has left")
    return render_pdf(build_report(rotation, by=by, now=now), show_progress)


def _mine(file: ReportFile) -> models.QuerySet[ReportFile]:
    return ReportFile.objects.filter(pk=file.pk, state=State.WORKING, attempts=file.attempts)


def _finish(file: ReportFile, **columns: object) -> None:
    _mine(file).update(**columns, lease_until=None, finished_at=database_now())


def remove_old_reports(*, now: datetime) -> int:
    """Remove the files that were asked for ``KEPT_FOR`` ago, and return how many."""
    old = ReportFile.objects.filter(created_at__lt=now - KEPT_FOR).exclude(state__in=(State.QUEUED, State.WORKING))
    return old.delete()[0]
