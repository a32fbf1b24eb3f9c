from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from as2certs import pki
from as2certs.pki import CertificateFinding
from as2certs.site.badges import ROTATION_BADGES, STEP_BADGES, rotation_badge
from identities.role_status import assignment_history
from rotations.lifecycle import approval
from rotations.planning.states import RotationState, StepState
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft

pytestmark = [pytest.mark.django_db, pytest.mark.dates]


@pytest.fixture
def company() -> Company:
    return make_company()


def render(source: str, **context: Any) -> str:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    text = Template("{% load looks parts %}" + source).render(Context({"request": request, "now": NOW, **context}))
    return " ".join(text.split())


def test_every_state_has_a_meaning_an_icon_and_a_word() -> None:
    assert set(ROTATION_BADGES) == set(RotationState)
    assert set(STEP_BADGES) == set(StepState)
    assert all(sign.word and sign.icon for sign in (*ROTATION_BADGES.values(), *STEP_BADGES.values()))


def test_an_overdue_rotation_says_so_before_its_state(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=NOW + timedelta(days=1)), by=company.approver, now=NOW)
    assert rotation.window_end is not None
    assert rotation_badge(rotation, rotation.window_end - timedelta(seconds=1)).word == "exchanging"
    late = rotation_badge(rotation, rotation.window_end)
    assert (late.meaning, late.word) == ("urgent", "overdue · exchanging")


def test_a_fingerprint_is_short_with_the_whole_on_hover_and_for_copying(company: Company) -> None:
    text = render("{% fingerprint sha256 %}", sha256=company.old.sha256)
    whole = pki.format_fingerprint(company.old.sha256)
    assert f'title="SHA-256 {whole}"' in text
    assert f'data-copy="{whole}"' in text
    assert pki.short_fingerprint(company.old.sha256) in text


def test_a_whole_fingerprint_wraps_after_colons_only(company: Company) -> None:
    text = render('{% fingerprint sha256 "whole" copy=False %}', sha256=company.old.sha256)
    whole = pki.format_fingerprint(company.old.sha256)
    assert whole.replace(":", ":<wbr>") in text


@pytest.mark.parametrize(
    ("decimal", "written"),
    [("10", "0A"), ("256", "01:00"), ("0", "00"), ("-5", "-05"), (str(2**127), "80" + ":00" * 15)],
)
def test_a_serial_number_is_written_in_hex_with_colons(decimal: str, written: str) -> None:
    assert render("{{ decimal|serial_hex }}", decimal=decimal) == written


def test_a_long_name_is_cut_in_the_middle_with_the_whole_on_hover() -> None:
    name = "Consolidated Wholesale & Retail of the North <West>, plant 17"
    text = render("{{ name|middle:24 }}", name=name)
    assert 'title="Consolidated Wholesale &amp; Retail of the North &lt;West&gt;, plant 17"' in text
    assert ">Consolidated Who…lant 17<" in text
    assert render("{{ name|middle:24 }}", name="Short & sweet") == "Short &amp; sweet"


def test_external_values_are_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    text = render('{% as2_id evil copy=True %}{% badge "fine" evil %}{% roles names %}', evil=evil, names=[evil])
    assert "<script>" not in text


def test_a_moment_is_in_the_readers_zone_with_utc_behind_it() -> None:
    with timezone.override("America/Chicago"):
        text = render("{% moment now %}")
    assert ">Mon 23 Nov 2026, 06:00 CST<" in text
    assert "12:00 UTC" in text
    assert 'datetime="2026-11-23T12:00:00+00:00"' in text


def test_a_missing_moment_is_a_dash() -> None:
    assert "–" in render("{% moment nothing %}", nothing=None)
    assert "–" in render("{% days_left nothing %}", nothing=None)
    assert render("{% away nothing %}", nothing=None) == '<span class="quiet">never</span>'


def test_two_certificates_are_compared_and_what_differs_is_marked(company: Company) -> None:
    text = render("{% compare_certificates old new %}", old=company.old, new=company.new)
    rows = text.split("<tr")
    marked = [row for row in rows if "differs" in row]
    assert any("Serial number" in row for row in marked)
    assert any("Not after" in row for row in marked)
    assert not any(">Subject" in row for row in marked)


def test_a_successor_that_is_awaited_is_compared_with_nothing(company: Company) -> None:
    text = render("{% compare_certificates old new %}", old=company.old, new=None)
    assert "differs" not in text


def test_the_bands_have_a_description(company: Company) -> None:
    text = render("{% role_bands history %}", history=assignment_history(company.identity))
    assert f'aria-label="sign: {company.old.short_name}: Mon 23 Nov 2026, 12:00 UTC to now"' in text
    assert company.old.get_absolute_url() in text


def test_an_empty_history_is_rendered(company: Company) -> None:
    assert "nothing so far" in render("{% role_bands history %}", history=[("sign", []), ("decrypt", [])])


def test_findings_name_what_to_do() -> None:
    finding = CertificateFinding("expired", "error", "It has expired.", "Use a newer one.")
    text = render('{% include "components/_findings.html" %}', findings=[finding])
    assert "is-urgent" in text
    assert "It has expired." in text
    assert "Use a newer one." in text


def test_a_page_about_a_test_station_carries_the_strip(company: Company) -> None:
    vera = log_in(make_person("vera", "viewer"))
    address = reverse("identity-detail", args=[company.identity.uid])
    assert "test-strip" not in vera.get(address).content.decode()
    company.identity.environment = "test"
    company.identity.save()
    assert "test-strip" in vera.get(address).content.decode()
