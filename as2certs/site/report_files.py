"""Draw reports as PDFs in the background, and keep them for a while: with 2,000 partners, one takes half a minute."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from as2certs.accounts.models import User
from as2certs.background import wake_task
from as2certs.background_jobs import BUSY, JobLost
from as2certs.errors import DomainError
from as2certs.site.rotation_report import build_report
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.execution.version_token import read_page_state
from rotations.models import ReportFile, Rotation

log = logging.getLogger(__name__)

#: After so many pages, the progress is stored, and the lease of the job extended.
PAGES_PER_UPDATE = 10
#: How long a file is given to whoever asks again while the rotation stays as it is; later, the date on it counts.
REUSED_FOR = timedelta(hours=1)
#: How long a file is kept.
KEPT_FOR = timedelta(days=7)

State = ReportFile.State


def request_report(rotation: Rotation, *, user: User, now: datetime) -> ReportFile:
    """Queue the drawing of a report, unless one is being drawn, or shows the rotation as it is now already."""
    version = read_page_state(rotation, now=now).stored
    shows_it = Q(state=State.DONE, version=version, created_at__gt=now - REUSED_FOR)
    same = Q(state__in=BUSY) | shows_it
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

    1. Claim it; each few pages extend the lease.
    2. Draw it, outside any transaction.
    3. Store it, unless another worker has claimed it meanwhile.
    """
    file = ReportFile.objects.defer("content").claim_next(now=now)
    if file is None:
        return False
    try:
        try:
            content = _draw(file, now=now)
        except DomainError as error:
            file.finish(State.FAILED, error=str(error))
        else:
            file.finish(State.DONE, content=content)
    except JobLost:
        log.warning("The report of rotation %s was left to another worker", file.rotation.uid)
    except Exception as error:  # whatever the PDF library raises: people have to see it, and it must not be repeated
        log.exception("The report of rotation %s can't be drawn", file.rotation.uid)
        reason = f"It could not be drawn ({type(error).__name__}). The page above has the same content"
        file.finish(State.FAILED, error=f"{reason}; the log of the application says more.")
    return True


def _draw(file: ReportFile, *, now: datetime) -> bytes:
    # Imported here, because fonts and images take 25 MB in each process.
    from as2certs.site.rotation_report_pdf import render_pdf

    rotation = Rotation.objects.select_related(*ROTATION_RELATIONS, "set_up_by", "approved_by").get(pk=file.rotation_id)
    file.extend_lease(pages=0)

    def show_progress(pages: int) -> None:
        if pages % PAGES_PER_UPDATE == 0:
            file.extend_lease(pages=pages)

    by = str(file.created_by or "a person who has left")
    return render_pdf(build_report(rotation, by=by, now=now), show_progress)


def remove_old_reports(*, now: datetime) -> int:
    """Remove the files that were asked for ``KEPT_FOR`` ago, and return how many."""
    old = ReportFile.objects.filter(created_at__lt=now - KEPT_FOR).exclude(state__in=BUSY)
    return old.delete()[0]
