"""The refreshing page of a rotation and its forms in a browser."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from playwright.sync_api import Page, expect

from as2certs.clock import database_now
from identities.capabilities import Support
from rotations.lifecycle import approval, drafts, step_actions
from rotations.models import Rotation
from rotations.planning.windows import Window
from tests.certificates import make_pair, p12
from tests.people import log_in_browser
from tests.rotations.company import CHICAGO, Company, confirm_all, make_company

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]


@pytest.fixture
def company(db: None) -> Company:
    company = make_company(connector="manual", system_keeps_both=Support.YES, now=database_now())
    company.alice.groups.add(Group.objects.get(name="administrator"))
    return company


@pytest.fixture
def inside(page: Page, live_server: object, company: Company) -> Page:
    """A browser in which Alice is logged in."""
    log_in_browser(page.context, company.alice, str(live_server))
    return page


def running(company: Company) -> Rotation:
    """Return an approved rotation whose window crosses midnight in its zone, which has the longest text."""
    now = database_now()
    day = (now + timedelta(days=5)).astimezone(ZoneInfo(CHICAGO))
    starts = day.replace(hour=23, minute=53, second=55, microsecond=0).astimezone(UTC)
    window = Window(starts, starts + timedelta(hours=1), CHICAGO)
    spec = drafts.DraftSpec(roles=("sign", "decrypt"), old=company.old, new=company.new, window=window)
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=now)
    return approval.approve(rotation, by=company.approver, now=now)


def test_the_page_refreshes_itself_and_keeps_open_sections(inside: Page, live_server: object, company: Company) -> None:
    rotation = running(company)
    inside.goto(f"{live_server}{rotation.get_absolute_url()}")
    inside.locator("#fold-install > summary").click()
    step = rotation.steps.get(act="stage")
    step_actions.complete_step(step, note="Ticket 4711", by=company.by, now=database_now())
    expect(inside.locator(f"#step-{step.uid}")).to_contain_text("Ticket 4711", timeout=20_000)
    expect(inside.locator("#fold-install")).to_have_attribute("open", "")
    confirm_all(rotation, company, now=database_now())
    expect(inside.locator("#rotation-head")).to_contain_text("scheduled", timeout=20_000)


@pytest.mark.extended
def test_the_refresh_waits_while_a_field_has_the_focus(inside: Page, live_server: object, company: Company) -> None:
    rotation = running(company)
    inside.goto(f"{live_server}{rotation.get_absolute_url()}")
    step = rotation.steps.get(act="stage")
    inside.locator(f"#done-{step.uid} > summary").click()
    note = inside.locator(f"#note-{step.uid}")
    note.fill("Loaded by the night")
    confirm_all(rotation, company, now=database_now())
    inside.wait_for_timeout(6_000)
    expect(note).to_have_value("Loaded by the night")
    note.press("End")
    note.type(" shift")
    inside.get_by_role("button", name="Record it as done").click()
    expect(inside.locator("#messages")).to_contain_text("Recorded as done")
    step.refresh_from_db()
    assert step.note == "Loaded by the night shift"


@pytest.mark.extended
def test_a_chosen_file_is_kept_while_the_window_is_corrected(
    inside: Page, live_server: object, company: Company, tmp_path: Path
) -> None:
    now = database_now()
    pair = make_pair("ACME 2029", not_before=now - timedelta(days=1), not_after=now + timedelta(days=900))
    (tmp_path / "next.p12").write_bytes(p12(pair))
    inside.goto(f"{live_server}{reverse('rotation-create')}?identity={company.identity.uid}")
    expect(inside.get_by_label("Certificate file")).to_be_hidden()
    inside.get_by_label("Upload it").check()
    inside.get_by_label("Certificate file").set_input_files(tmp_path / "next.p12")
    inside.get_by_label("Password").fill("secret")
    inside.get_by_label("Day", exact=True).fill("2031-03-09")
    inside.get_by_label("From").fill("02:30")
    inside.get_by_label("Until", exact=True).fill("04:00")
    inside.get_by_label("On whose clock").select_option("America/Chicago")
    expect(inside.locator("#foresight")).to_contain_text("does not exist in America/Chicago")
    inside.get_by_role("button", name="Set up the draft").click()
    expect(inside.locator(".invalid-feedback").first).to_contain_text("does not exist in America/Chicago")
    inside.get_by_label("Day", exact=True).fill((now + timedelta(days=5)).date().isoformat())
    expect(inside.locator("#foresight")).to_contain_text("The plan")
    inside.get_by_role("button", name="Set up the draft").click()
    expect(inside.locator("#messages")).to_contain_text("The rotation is set up as a draft")
    rotation = Rotation.objects.get()
    assert rotation.new is not None
    assert rotation.new.common_name == "ACME 2029"
    assert inside.url.endswith(rotation.get_absolute_url())


def test_the_preview_request_has_no_key_and_no_password(inside: Page, live_server: object, company: Company) -> None:
    sent: list[str] = []
    inside.on("request", lambda r: sent.append(r.post_data or "") if "/preview/" in r.url else None)
    inside.goto(f"{live_server}{reverse('rotation-create')}?identity={company.identity.uid}")
    inside.get_by_label("Upload it").check()
    inside.get_by_label("Password").fill("only-for-the-key")
    inside.get_by_label("or paste it as text").fill("-----BEGIN PRIVATE KEY-----")
    # Earlier changes of the form have requests of their own, which may still be under way.
    with inside.expect_request(lambda r: "/preview/" in r.url and "2031-03-09" in (r.post_data or "")):
        inside.get_by_label("Day", exact=True).fill("2031-03-09")
        inside.get_by_label("From").focus()
    assert any("window_date=2031-03-09" in body for body in sent)
    assert not any("only-for-the-key" in body or "PRIVATE" in body for body in sent)


def test_every_page_fits_a_phone(inside: Page, live_server: object, company: Company) -> None:
    rotation = running(company)
    participant = rotation.participants.all()[0]
    paths = [
        reverse("rotation-list"),
        reverse("rotation-create"),
        f"{reverse('rotation-create')}?identity={company.identity.uid}",
        rotation.get_absolute_url(),
        *(reverse(f"rotation-{name}", args=[rotation.uid]) for name in ("postpone", "cancel", "close", "roll-back")),
        *(reverse(f"participant-{name}", args=[participant.uid]) for name in ("confirm", "waive", "remove")),
    ]
    for path in paths:
        inside.goto(f"{live_server}{path}")
        for width in (390, 360):
            inside.set_viewport_size({"width": width, "height": 844})
            assert inside.evaluate("document.documentElement.scrollWidth") <= width, path
