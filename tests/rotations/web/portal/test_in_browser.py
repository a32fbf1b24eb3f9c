"""The partner's page in a browser: phone, dark mode, keyboard, no JavaScript, and a 100 MB file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from as2certs import pki
from as2certs.clock import database_now
from identities.capabilities import Support
from partners.models import Partner
from rotations.exchange.time_slots import offer_slots
from rotations.letters import access_links, announcements
from rotations.lifecycle import approval, drafts
from rotations.models import Participant, Rotation
from rotations.planning.windows import Window
from tests.e2e.desk import Desk
from tests.e2e.tour import Tour, look_at
from tests.rotations.company import CHICAGO, Company, make_company, window
from tests.rotations.web.portal.conftest import ALICE, with_contacts
from tests.stack import Running, Stack

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Setting:
    """A rotation at the real time, and the URL of Northwind's page."""

    def __init__(self, url: str, *, holds: str = Support.YES, hours: int = 240) -> None:
        self.now = database_now()
        self.company: Company = with_contacts(make_company(now=self.now, partners_keep_both=holds))
        starts = (self.now + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
        spec = drafts.DraftSpec(
            roles=("sign", "decrypt"),
            old=self.company.old,
            new=self.company.new,
            window=Window(starts, starts + timedelta(hours=1), CHICAGO),
        )
        rotation = drafts.create_draft(self.company.identity, spec, by=self.company.by, now=self.now)
        self.rotation = approval.approve(rotation, by=self.company.approver, now=self.now)
        self.rotation.steps.filter(act="stage").update(state="done", done_at=self.now)
        self.rotation.steps.filter(act="announce").update(blocked=False)
        for participant in self.rotation.participants.all():
            announcements.announce(participant, by=self.company.by, now=self.now)
        self.url = url
        self.path = self.link()

    @property
    def northwind(self) -> Participant:
        return self.rotation.participants.select_related("partner").get(partner__as2_id="NORTHWIND")

    def link(self) -> str:
        """Return the path of a new link to Northwind's page."""
        partner = self.northwind.partner
        contact = partner.contacts.get()
        fresh = access_links.create_link(partner, participant=self.northwind, contact=contact, by=ALICE, now=self.now)
        return "/p/" + fresh.url.partition("/p/")[2]

    def northwind_has(self, **columns: object) -> None:
        Participant.objects.filter(pk=self.northwind.pk).update(**columns)

    def becomes(self, state: str, **columns: object) -> None:
        Rotation.objects.filter(pk=self.rotation.pk).update(state=state, **columns)


@pytest.fixture
def clock() -> None:
    """The real clock."""


@pytest.fixture
def browse(chromium: Browser, live_server: object) -> Iterator[Callable[..., Page]]:
    """Open pages in browsers of their own, each with the options of its context."""
    contexts = []

    def make(**options: Any) -> Page:
        context = chromium.new_context(**{"base_url": str(live_server), "locale": "en-GB", **options})
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A sparse file of 100 MB."""
    file = tmp_path / "huge.cer"
    with file.open("wb") as opened:
        opened.truncate(100 * 1024 * 1024)
    return file


def spans(now: datetime) -> list[tuple[str, dict[str, Any]]]:
    """Return a change in each of its states, as columns of its rotation."""
    soon = {"window_start": now + timedelta(hours=5), "window_end": now + timedelta(hours=6)}
    inside = {"window_start": now - timedelta(minutes=5), "window_end": now + timedelta(hours=1)}
    after = {"window_start": now - timedelta(hours=2), "window_end": now - timedelta(hours=1)}
    return [
        ("exchanging", {}),
        ("exchanging", soon),
        ("exchanging", inside),
        ("scheduled", inside),
        ("exchanging", after),
        ("applied", {**after, "applied_at": now}),
        ("rolling_back", after),
        ("cancelled", {**after, "ended_at": now}),
        ("closed", {**after, "ended_at": now}),
    ]


def answers(now: datetime) -> list[dict[str, Any]]:
    """Return the possible answers of a partner, as columns of its participant."""
    starts = now + timedelta(days=3)
    proposed = {
        "proposed_start": starts,
        "proposed_end": starts + timedelta(hours=1),
        "proposed_zone": CHICAGO,
    }
    return [
        {"confirmed_at": now, "evidence": "weak"},
        {"evidence": "strong"},
        {"agreed_at": now},
        {"agreed_at": None, "proposed_at": now, **proposed},
        {"declined_at": now, "declined_reason": "Our vendor is away until the spring"},
    ]


@pytest.mark.extended
@pytest.mark.parametrize("holds", [Support.YES, Support.NO])
def test_each_state_fits_a_phone_and_a_desktop_and_is_accessible(
    chromium: Browser, live_server: object, holds: str
) -> None:
    setting, desk, tour = Setting(str(live_server), holds=holds), Desk(chromium, str(live_server)), Tour()
    Partner.objects.filter(name="Northwind").update(name="Northwind " + "Traders" * 8)
    for number, (state, columns) in enumerate(spans(setting.now)):
        setting.becomes(state, **columns)
        look_at(desk, f"{setting.path}?{number}", tour)
    setting.becomes("exchanging", **spans(setting.now)[1][1], ended_at=None)
    for number, answered in enumerate(answers(setting.now)):
        setting.northwind_has(**answered)
        look_at(desk, f"{setting.path}?answered={number}", tour)
    setting.rotation.refresh_from_db()
    starts = setting.now + timedelta(days=2)
    offered = [window(starts + timedelta(days=day)) for day in range(3)]
    offer_slots(setting.rotation, offered, by=ALICE, now=setting.now)
    look_at(desk, f"{setting.path}?slots", tour)
    look_at(desk, f"{setting.path}certificate/", tour)
    desk.context.close()
    assert {path: wrong for path, wrong in tour.too_wide.items() if wrong} == {}
    assert {path: wrong for path, wrong in tour.nameless.items() if wrong} == {}
    assert {path: wrong for path, wrong in tour.noticed.items() if wrong} == {}
    assert len(tour.nameless) == 16


@pytest.mark.extended
def test_denied_visitors_get_an_accessible_page(chromium: Browser, live_server: object) -> None:
    setting, desk, tour = Setting(str(live_server)), Desk(chromium, str(live_server)), Tour()
    look_at(desk, "/p/wrong/", tour)
    access_links.revoke_link(setting.northwind.links.first(), reason="x", by=ALICE, now=setting.now)  # type: ignore[arg-type]
    look_at(desk, setting.path, tour)
    desk.context.close()
    assert [wrong for wrong in [*tour.too_wide.values(), *tour.nameless.values()] if wrong] == []


def test_a_partner_answers_on_a_phone_without_javascript(
    browse: Callable[..., Page], live_server: object, tmp_path: Path
) -> None:
    setting = Setting(str(live_server), holds=Support.NO)
    page = browse(**PHONE, java_script_enabled=False)
    page.goto(setting.path)
    expect(page.get_by_role("heading", level=1)).to_have_text("Our AS2 certificate changes")
    with page.expect_download() as coming:
        page.get_by_role("button", name="DER (.cer)").click()
    coming.value.save_as(tmp_path / "new.cer")
    read = pki.read_public((tmp_path / "new.cer").read_bytes(), partner=True)
    assert read.leaf == setting.company.new.certificate
    shown = pki.format_fingerprint(pki.describe(read.leaf).sha256).replace(":", " ").lower()
    page.get_by_label("The fingerprint that your system shows").fill(shown)
    page.get_by_role("button", name="Check it and confirm").click()
    expect(page.locator("#messages")).to_contain_text("so it is the right one. Next: say whether the time suits you.")
    page.get_by_role("button", name="This time is all right").click()
    expect(page.locator("#messages")).to_contain_text("Thank you: you agree to")
    expect(page.get_by_role("heading", level=1)).to_have_text("Our AS2 certificate changes: we have your answers")
    northwind = setting.northwind
    assert (northwind.evidence, northwind.agreed_at is not None) == ("strong", True)
    assert northwind.downloaded_at is not None


@pytest.mark.extended
def test_a_page_that_is_only_rendered_is_not_opened_and_a_key_opens_it(
    browse: Callable[..., Page], live_server: object
) -> None:
    setting = Setting(str(live_server))
    page = browse()
    page.goto(setting.path)
    page.evaluate("dispatchEvent(new Event('pointerdown')); scrollTo(0, document.body.scrollHeight)")
    page.wait_for_load_state("networkidle")
    assert setting.northwind.fetched_at is not None
    assert setting.northwind.opened_at is None
    with page.expect_response("**/opened/") as answer:
        page.keyboard.press("Tab")
    assert answer.value.status == 204
    assert setting.northwind.opened_at is not None


@pytest.mark.extended
def test_the_old_fingerprint_is_detected_while_typing_and_refused(
    browse: Callable[..., Page], live_server: object
) -> None:
    setting = Setting(str(live_server))
    page = browse(**PHONE)
    page.goto(setting.path)
    field = page.get_by_label("The fingerprint that your system shows")
    old, new = (
        pki.format_fingerprint(certificate.sha256) for certificate in (setting.company.old, setting.company.new)
    )
    field.fill(f"sha256 Fingerprint={new}")
    expect(page.locator(".verdict")).to_have_text("That is the new certificate.")
    field.fill(old)
    expect(page.locator(".verdict")).to_contain_text("That is the old certificate")
    page.get_by_role("button", name="Check it and confirm").click()
    expect(page.locator("#refused")).to_contain_text("Nothing was recorded yet.")
    expect(page.locator("#div_installed_fingerprint .invalid-feedback")).to_contain_text("That is the old certificate")
    expect(field).to_have_value(old)
    expect(field).to_have_attribute("aria-invalid", "true")


@pytest.mark.extended
def test_everything_is_reachable_by_keyboard(browse: Callable[..., Page], live_server: object) -> None:
    setting = Setting(str(live_server))
    page = browse(viewport={"width": 1440, "height": 1000})
    page.goto(setting.path)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#part-installed summary").first).to_be_focused()
    summary = page.locator("#part-decline > summary")
    for _ in range(40):
        page.keyboard.press("Tab")
        if summary.evaluate("one => one === document.activeElement"):
            break
    expect(summary).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Why it can’t be done")).to_be_focused()
    page.keyboard.type("Our vendor is away")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#messages")).to_contain_text("We have noted that it can’t be done")
    assert setting.northwind.declined_reason == "Our vendor is away"


@pytest.mark.extended
def test_touch_targets_are_large_enough(browse: Callable[..., Page], live_server: object) -> None:
    setting = Setting(str(live_server))
    page = browse(**PHONE)
    page.goto(setting.path)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    small = page.evaluate(
        """() => [...document.querySelectorAll("main button, main summary, main a, main select, main .form-control")]
          .map((part) => [part.textContent.trim() || part.name, part.getBoundingClientRect()])
          .filter(([, box]) => box.height > 0 && box.height < 36)
          .map(([name, box]) => `${name}: ${box.height}`)"""
    )
    assert small == []


@pytest.mark.extended
def test_a_time_can_be_proposed_without_javascript(browse: Callable[..., Page], live_server: object) -> None:
    setting = Setting(str(live_server))
    page = browse(**PHONE, java_script_enabled=False)
    page.goto(setting.path)
    page.locator("#part-time summary").first.click()
    page.locator("#part-propose > summary").click()
    day = (setting.now + timedelta(days=12)).date()
    page.get_by_label("Day", exact=True).fill(day.isoformat())
    page.get_by_label("From", exact=True).fill("21:00")
    page.get_by_label("Until", exact=True).fill("22:00")
    expect(page.get_by_label(re.compile(r"^\s*Time zone"))).to_have_value(CHICAGO)
    page.get_by_role("button", name="Propose this time").click()
    expect(page.locator("#messages")).to_contain_text("Thank you: you propose")
    assert setting.northwind.proposed_zone == CHICAGO


@pytest.mark.extended
def test_a_script_blocks_large_files_and_keeps_the_input(
    browse: Callable[..., Page], live_server: object, huge: Path
) -> None:
    setting = Setting(str(live_server))
    page = browse(**PHONE)
    page.goto(setting.path)
    page.get_by_text("Add a note", exact=True).click()
    page.get_by_label("Anything we should know").fill("On both nodes")
    page.get_by_text("No fingerprint to copy?").click()
    page.get_by_label("The certificate, exported from your system").set_input_files(huge)
    expect(page.get_by_text("This file has 100.0 MiB, and a certificate has a few KB")).to_be_visible()
    page.get_by_role("button", name="Check it and confirm").click()
    expect(page.locator("#refused")).to_contain_text("Nothing was recorded yet.")
    expect(page.get_by_label("Anything we should know")).to_have_value("On both nodes")


@pytest.mark.parametrize("works", [True, pytest.param(False, marks=pytest.mark.extended)])
def test_after_the_change_the_partner_reports_the_result(
    browse: Callable[..., Page], live_server: object, works: bool
) -> None:
    setting = Setting(str(live_server))
    after = {"window_start": setting.now - timedelta(hours=2), "window_end": setting.now - timedelta(hours=1)}
    made = ("install", "cut_over", "test")
    setting.rotation.steps.filter(act__in=made).update(state="done", done_at=setting.now)
    setting.becomes("applied", applied_at=setting.now, **after)
    page = browse(**PHONE)
    page.goto(setting.path)
    if works:
        page.get_by_role("button", name="Yes, messages flow").click()
    else:
        page.locator("#part-works textarea").fill("Every MDN says authentication-failed")
        page.get_by_role("button", name="No, something does not work").click()
    expect(page.locator("#messages")).to_be_visible()
    assert setting.northwind.works is works


def test_two_concurrent_visitors_lose_nothing(browse: Callable[..., Page], live_server: object) -> None:
    setting = Setting(str(live_server))
    nora, ned = browse(**PHONE), browse(**PHONE)
    for page in (nora, ned):
        page.goto(setting.path)
    nora.get_by_text("Say that it can’t be done", exact=True).first.click()
    nora.get_by_label("Why it can’t be done").fill("Our vendor is away")
    nora.get_by_role("button", name="Say that it can’t be done").click()
    expect(nora.locator("#messages")).to_contain_text("We have noted")
    ned.get_by_text("Add a note", exact=True).click()
    ned.get_by_label("Anything we should know").fill("On both nodes")
    ned.get_by_role("button", name="Confirm without a fingerprint").click()
    expect(ned.get_by_role("alert")).to_contain_text("Nora North said that it can’t be done")
    expect(ned.get_by_label("Anything we should know")).to_have_value("On both nodes")
    ned.get_by_role("button", name="Confirm without a fingerprint").click()
    expect(ned.locator("#messages")).to_contain_text("Thank you, noted as you say.")


#: What the processes of the web server may grow by, in bytes, over a file of 100 MB: far less than it.
MOST_GROWN = 30 * 1024 * 1024


def memory(web: Running) -> int:
    """Return the sum of the peak memory (bytes) of the web server's processes."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if os.getpgid(int(folder.name)) == web.pid:
                high = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
                found += int(high[1]) * 1024 if high else 0
    assert found
    return found


MAKE = """
import json, datetime
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.letters import access_links
from rotations.management import demo
from rotations.models import Participant
demo.load(now=database_now())
asked = Participant.objects.filter(rotation__state__in=("exchanging", "scheduled"))
participant = asked.filter(evidence="strong").order_by("pk").first()
by = Actor(name="test", source="command")
fresh = access_links.create_link(participant.partner, participant=participant, contact=None, by=by, now=database_now())
print(json.dumps(fresh.url))
"""


@pytest.mark.extended
def test_a_file_of_100_mb_gets_an_error_page_and_no_broken_connection(
    chromium: Browser, make_stack: Callable[..., Stack], huge: Path
) -> None:
    stack = make_stack()
    url = stack.python(MAKE)
    (web,) = stack.start("web")
    context = chromium.new_context(**PHONE, java_script_enabled=False)  # a script would refuse it before it is sent
    page = context.new_page()
    page.goto(url)
    page.locator("#part-installed summary").first.click()  # it has answered: what it said is folded away
    page.get_by_text("No fingerprint to copy?").click()
    highest = memory(web)
    page.get_by_label("The certificate, exported from your system").set_input_files(huge)
    page.get_by_role("button", name="Check it and confirm").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("This file is too large", timeout=60_000)
    expect(page.locator("main")).to_contain_text("the file of a certificate has at most 1 MiB")
    assert memory(web) - highest < MOST_GROWN
    context.close()
    assert url.rstrip("/").rsplit("/", 1)[1] not in web.log
