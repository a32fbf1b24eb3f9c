"""Announcing to partners and following up in a browser."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from as2certs.clock import database_now
from as2certs.mail.models import Message
from rotations.execution import confirmations
from rotations.letters import announcements
from rotations.lifecycle import approval, drafts
from rotations.models import Letter, Participant, Rotation
from rotations.planning.windows import Window
from tests.people import log_in_browser
from tests.rotations.company import CHICAGO, Company, make_company
from tests.rotations.web.portal.conftest import with_contacts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]


@pytest.fixture
def company(db: None) -> Company:
    """Fabrikam and Northwind with a contact each, at the real time; Alice has all permissions."""
    company = with_contacts(make_company(now=database_now()))
    company.alice.groups.add(Group.objects.get(name="administrator"))
    return company


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """An approved rotation whose partners can be informed now."""
    now = database_now()
    starts = (now + timedelta(days=12)).replace(minute=0, second=0, microsecond=0)
    spec = drafts.DraftSpec(
        roles=("sign", "decrypt"),
        old=company.old,
        new=company.new,
        window=Window(starts, starts + timedelta(hours=1), CHICAGO),
    )
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=now)
    rotation = approval.approve(rotation, by=company.approver, now=now)
    rotation.steps.filter(act="stage").update(state="done", done_at=now)
    rotation.steps.filter(act="announce").update(blocked=False)
    return rotation


@pytest.fixture
def announced(rotation: Rotation, company: Company) -> Rotation:
    """The same rotation, two days after both partners were informed."""
    then = database_now() - timedelta(days=2)
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=then)
    return rotation


@pytest.fixture
def inside(page: Page, live_server: object, company: Company) -> Page:
    """A browser in which Alice is logged in."""
    log_in_browser(page.context, company.alice, str(live_server))
    return page


def show(inside: Page, live_server: object, rotation: Rotation) -> None:
    inside.goto(f"{live_server}{rotation.get_absolute_url()}")


def together(inside: Page, button: str) -> None:
    """Select all partners and choose a bulk action."""
    inside.get_by_label("Tick all").check()
    inside.get_by_role("button", name=button, exact=True).click()


def mail_lines(part: Locator) -> list[str]:
    """Return the lines of a mail without the URL of the partner's page, which sent mails hide."""
    return re.sub(r"http\S+|•••", "<link>", part.inner_text()).split("\n")


@pytest.mark.extended
def test_the_previewed_mail_is_sent(inside: Page, live_server: object, rotation: Rotation) -> None:
    show(inside, live_server, rotation)
    inside.locator(".page-actions").get_by_role("link", name=re.compile("^Announce")).click()
    seen = {}
    for name in ("Fabrikam", "Northwind"):
        fold = inside.locator("details.envelope", has_text=f"The mail to {name}")
        if fold.get_attribute("open") is None:
            fold.locator("> summary").click()
        article = fold.locator("article")
        article.get_by_text("As plain text").click()
        frame = article.frame_locator("iframe").locator("body")
        subject = article.locator("dt:text-is('Subject') + dd").inner_text()
        attached = article.locator("dt:text-is('Attached') + dd a").all_inner_texts()
        seen[name] = (subject, mail_lines(article.locator("pre")), mail_lines(frame), sorted(attached))
    assert not Message.objects.filter(kind__startswith="partner").exists()
    inside.get_by_role("button", name="Send 2 mails to 2 partners").click()
    expect(inside.locator("#messages")).to_contain_text("2 mails to 2 partners will leave within seconds.")
    for letter in Letter.objects.filter(kind="announcement").select_related("partner", "message"):
        message = letter.message
        assert message is not None
        inside.goto(f"{live_server}{reverse('mail-detail', args=[message.uid])}")
        text = mail_lines(inside.get_by_role("region", name="As plain text").locator("pre"))
        html = mail_lines(inside.frame_locator("iframe").locator("body"))
        with_it = inside.locator("dt:text-is('With it') + dd").all_inner_texts()
        attached = sorted(file.partition(" (")[0] for file in with_it)
        subject, seen_text, seen_html, seen_attached = seen[letter.partner.name]
        assert (message.subject, attached) == (subject, seen_attached)
        assert text == seen_text
        assert html == seen_html


@pytest.mark.extended
def test_the_button_shows_the_number_of_selected_partners(
    inside: Page, live_server: object, rotation: Rotation
) -> None:
    inside.goto(f"{live_server}{reverse('rotation-announce', args=[rotation.uid])}")
    inside.get_by_label("Fabrikam").uncheck()
    expect(inside.get_by_role("button", name="Send 1 mail to 1 partner")).to_be_enabled()
    inside.get_by_label("Northwind").uncheck()
    expect(inside.get_by_role("button", name="Tick whom to tell")).to_be_disabled()


def test_selected_partners_are_announced_to(inside: Page, live_server: object, rotation: Rotation) -> None:
    show(inside, live_server, rotation)
    inside.get_by_label("Tick Northwind").check()
    inside.locator(".together").get_by_role("button", name="Announce …").click()
    expect(inside.get_by_label("Northwind")).to_be_checked()
    expect(inside.get_by_label("Fabrikam")).not_to_be_checked()
    inside.get_by_role("button", name="Send 1 mail to 1 partner").click()
    expect(inside.locator("#messages")).to_contain_text("1 mail to 1 partner will leave")
    assert [letter.partner.name for letter in Letter.objects.all()] == ["Northwind"]


@pytest.mark.extended
def test_selected_partners_are_reminded(inside: Page, live_server: object, announced: Rotation) -> None:
    show(inside, live_server, announced)
    together(inside, "Remind …")
    expect(inside.get_by_role("heading", level=1)).to_have_text("Remind partners now")
    expect(inside.locator("main")).to_contain_text("A reminder goes to Nora North, nora@northwind.example.")
    inside.get_by_label("Fabrikam").uncheck()
    inside.get_by_role("button", name="Remind 1 partner").click()
    expect(inside.locator("#messages")).to_contain_text("Reminded: Northwind.")
    assert [letter.partner.name for letter in Letter.objects.filter(kind="nudge")] == ["Northwind"]


@pytest.mark.extended
def test_selected_partners_get_more_time(inside: Page, live_server: object, announced: Rotation) -> None:
    show(inside, live_server, announced)
    together(inside, "Give more time …")
    day = (database_now() + timedelta(days=6)).date()
    inside.get_by_label(re.compile("Answer by")).fill(day.isoformat())
    inside.get_by_role("button", name="Give 2 partners until then").click()
    expect(inside.locator("#messages")).to_contain_text("Has more time now: Fabrikam and Northwind.")
    assert announced.participants.filter(answer_by__date__gte=day).count() == 2


@pytest.mark.extended
def test_the_change_continues_without_selected_partners(inside: Page, live_server: object, announced: Rotation) -> None:
    show(inside, live_server, announced)
    together(inside, "Go on without …")
    inside.get_by_label("Northwind").uncheck()
    inside.get_by_label("Why it may go on without them").fill("Trades again in spring")
    inside.get_by_role("button", name="Don’t wait for 1 partner").click()
    expect(inside.locator("#messages")).to_contain_text("The change goes on without Fabrikam.")
    waived = Participant.objects.exclude(waived_reason="")
    assert list(waived.values_list("partner__name", "waived_reason")) == [("Fabrikam", "Trades again in spring")]


@pytest.mark.extended
def test_selected_partners_are_printed(inside: Page, live_server: object, announced: Rotation) -> None:
    show(inside, live_server, announced)
    inside.get_by_label("Tick Northwind").check()
    inside.get_by_role("button", name="Print", exact=True).click()
    table = inside.locator("table.partners")
    expect(table.locator("tbody th")).to_have_count(1)
    expect(table).to_contain_text("Northwind")
    expect(inside.get_by_role("checkbox")).to_have_count(0)


def test_the_selection_survives_a_refresh_of_the_page(
    inside: Page, live_server: object, announced: Rotation, company: Company
) -> None:
    show(inside, live_server, announced)
    inside.get_by_label("Tick Northwind").check()
    fabrikam = announced.participants.get(partner__name="Fabrikam")
    confirmations.confirm_installation(
        fabrikam, confirmations.PartnerAnswer("Fay Fisher", by=company.by, now=database_now()), agreed=True
    )
    row = inside.locator(f"#partner-{fabrikam.uid}")
    expect(row).to_contain_text("unverified", timeout=20_000)  # the page has refreshed itself
    expect(inside.get_by_label("Tick Northwind")).to_be_checked()
    expect(inside.get_by_label("Tick Fabrikam")).not_to_be_checked()
