"""The report of a rotation: page and PDF have the same content, which is all that an auditor needs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from io import BytesIO

import pytest
from django.conf import settings
from django.urls import reverse
from pypdf import PdfReader

from as2certs import pki
from as2certs.site.rotation_report import build_report
from as2certs.site.rotation_report_pdf import render_pdf
from rotations.models import Rotation
from tests.inventory import count_queries
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company
from tests.rotations.pages import make_drafted, make_scheduled, page_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def company(db: None) -> Company:
    company = make_company()
    company.partners[0].name = "Łódź Żółć GmbH"
    company.partners[0].save()
    return company


@pytest.fixture
def rotation(company: Company) -> Rotation:
    rotation = make_scheduled(company)
    step = rotation.steps.get(act="stage")
    step.done_at, step.done_by, step.note = NOW + timedelta(seconds=7), "AS2 Certs", "written, and read back"
    step.save()
    return rotation


def test_the_report_has_what_an_auditor_needs(company: Company, rotation: Rotation) -> None:
    client = log_in(make_person("vera", "viewer"))
    shown = page_text(client.get(reverse("rotation-report", args=[rotation.uid])))
    for wanted in (
        pki.format_fingerprint(company.old.sha256),
        pki.format_fingerprint(company.new.sha256),
        "2026-11-23 12:00:07Z",  # when it was done, to the second
        "written, and read back",
        "Thu 3 Dec 2026, 22:00 to 23:00 CST (UTC−06:00)",
        "Fri 4 Dec 2026, 04:00 to 05:00 UTC",
        "2026-11-23 12:00:00Z, bob",  # who approved it, when
        "proven",
        "approved the rotation: ACME: sign + decrypt",
        "192.0.2.8",
        "Łódź Żółć GmbH (FABRIKAM)",
    ):
        assert wanted in shown, wanted


def test_the_pdf_has_the_same_content(rotation: Rotation) -> None:
    report = build_report(rotation, by="Vera", now=NOW)
    pdf = render_pdf(report)
    assert pdf.startswith(b"%PDF-")
    words = squeezed("".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages))
    for section in report.sections:
        cells = [cell for row in (section.table.rows if section.table else ()) for cell in row]
        for wanted in (section.title, *(value for _, value in section.facts), *cells):
            for line in wanted.split("\n"):
                assert squeezed(line) in words, line


def squeezed(words: str) -> str:
    """Return a text without white space and without what only lets it break."""
    return "".join(words.replace("\u200b", "").split())


def test_the_report_requires_the_permission_for_the_trail(rotation: Rotation) -> None:
    client = log_in(make_person("nobody"))
    for name in ("rotation-report", "rotation-report-pdf"):
        assert client.get(reverse(name, args=[rotation.uid])).status_code == 403


def test_the_number_of_queries_does_not_grow_with_the_partners(company: Company, rotation: Rotation) -> None:
    few = count_queries(lambda: build_report(rotation, by="Vera", now=NOW))
    assert few <= 16


def test_a_draft_has_a_report(company: Company) -> None:
    report = build_report(make_drafted(company), by="Vera", now=NOW)
    assert report.sections[3].note == "No step was planned."
    assert render_pdf(report).startswith(b"%PDF-")


def test_pdf_libraries_are_imported_with_the_first_pdf() -> None:
    code = (
        "import sys, django; django.setup()\n"
        "from django.urls import reverse; reverse('home')\n"
        "print([name for name in ('fpdf', 'fontTools', 'PIL') if name in sys.modules])\n"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
