"""Reports are drawn in the background, once for all who ask, and are kept for a while."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO

import pytest
from django.urls import reverse
from pypdf import PdfReader

from as2certs.accounts.models import User
from as2certs.background_jobs import LEASE_DURATION, MAX_ATTEMPTS, JobLost
from as2certs.site import report_files, rotation_report_pdf
from as2certs.site.report_files import KEPT_FOR, draw_next, request_report
from as2certs.site.rotation_report import build_report
from rotations.models import ReportFile, Rotation
from tests.people import log_in, make_person
from tests.rotations.company import NOW, make_company
from tests.rotations.pages import make_drafted, page_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def rotation(db: None) -> Rotation:
    return make_drafted(make_company())


@pytest.fixture
def vera(db: None) -> User:
    return make_person("vera", "viewer")


def test_a_report_is_asked_for_drawn_and_downloaded(rotation: Rotation, vera: User) -> None:
    client = log_in(vera)
    page, pdf, draw = (
        reverse(name, args=[rotation.uid])
        for name in ("rotation-report", "rotation-report-pdf", "rotation-report-draw")
    )
    assert "There is no PDF of this report" in page_text(client.get(pdf, follow=True))
    assert client.get(draw).status_code == 405
    shown = page_text(client.post(draw, follow=True))
    assert "waiting for its turn" in shown
    assert 'hx-trigger="every 1s"' in shown
    assert draw_next(now=NOW)
    assert not draw_next(now=NOW)
    part = client.get(page, headers={"HX-Request": "true"})
    assert "Download the PDF" in page_text(part)
    assert "<html" not in page_text(part)
    answer = client.get(pdf)
    assert answer["Content-Type"] == "application/pdf"
    assert answer["Content-Disposition"] == 'attachment; filename="rotation-ACME-PROD-2026-11-23.pdf"'
    assert len(PdfReader(BytesIO(answer.content)).pages) == rotation_pages(rotation)


def rotation_pages(rotation: Rotation) -> int:
    """Return the number of pages of the report that is drawn at once."""
    report = build_report(rotation, by="vera", now=NOW)
    return len(PdfReader(BytesIO(rotation_report_pdf.render_pdf(report))).pages)


def test_a_report_that_is_asked_for_twice_is_drawn_once(rotation: Rotation, vera: User) -> None:
    first = request_report(rotation, user=vera, now=NOW)
    assert request_report(rotation, user=vera, now=NOW) == first
    assert draw_next(now=NOW)
    assert request_report(rotation, user=vera, now=NOW) == first  # it still shows what is there
    Rotation.objects.update(notes="Changed")
    rotation.refresh_from_db()
    assert request_report(rotation, user=vera, now=NOW) != first


def test_a_report_that_can_not_be_drawn_says_why_and_can_be_tried_again(
    rotation: Rotation, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("no such glyph")

    monkeypatch.setattr(rotation_report_pdf, "render_pdf", fail)
    file = request_report(rotation, user=vera, now=NOW)
    assert draw_next(now=NOW)
    assert not draw_next(now=NOW)
    file.refresh_from_db()
    assert file.state == "failed"
    shown = page_text(log_in(vera).get(reverse("rotation-report", args=[rotation.uid])))
    assert "It could not be drawn (ValueError)." in shown
    assert "Try again" in shown
    assert request_report(rotation, user=vera, now=NOW) != file


def test_the_report_of_a_worker_that_died_is_drawn_by_another_one_and_given_up_in_the_end(
    rotation: Rotation, vera: User
) -> None:
    file = request_report(rotation, user=vera, now=NOW)
    claims = []
    for attempt in range(MAX_ATTEMPTS):
        claims.append(ReportFile.objects.claim_next(now=NOW + attempt * LEASE_DURATION * 2))
        assert claims[-1] == file
        assert not draw_next(now=NOW + attempt * LEASE_DURATION * 2)  # while its lease lasts
    with pytest.raises(JobLost):
        claims[0].finish("done", content=b"of the first worker")
    file.refresh_from_db()
    assert file.state == "working"
    assert not draw_next(now=NOW + MAX_ATTEMPTS * LEASE_DURATION * 2)
    file.refresh_from_db()
    assert (file.state, file.error[:18]) == ("failed", "It was begun 3 tim")


def test_a_report_is_removed_after_its_time(rotation: Rotation, vera: User) -> None:
    request_report(rotation, user=vera, now=NOW)
    assert report_files.remove_old_reports(now=NOW + 2 * KEPT_FOR) == 0  # it is not drawn yet
    assert draw_next(now=NOW)
    assert report_files.remove_old_reports(now=NOW + KEPT_FOR) == 0
    assert report_files.remove_old_reports(now=NOW + KEPT_FOR + timedelta(seconds=1)) == 1
    assert not ReportFile.objects.exists()


def test_progress_is_shown_page_by_page(rotation: Rotation, vera: User, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(report_files, "PAGES_PER_UPDATE", 1)
    finish = ReportFile.finish
    file = request_report(rotation, user=vera, now=NOW)

    def look_and_finish(one: ReportFile, state: str, **columns: object) -> None:
        seen.append(ReportFile.objects.get().pages)
        finish(one, state, **columns)

    monkeypatch.setattr(ReportFile, "finish", look_and_finish)
    assert draw_next(now=NOW)
    file.refresh_from_db()
    assert seen == [len(PdfReader(BytesIO(bytes(file.content or b""))).pages)]


def test_only_those_who_may_see_the_trail_get_a_report(rotation: Rotation) -> None:
    client = log_in(make_person("nobody"))
    url = reverse("rotation-report-draw", args=[rotation.uid])
    assert client.post(url).status_code == 403
    assert not ReportFile.objects.exists()
