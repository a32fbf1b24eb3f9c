"""Announce a change: the preview is what is sent, with the certificate and never a key."""

from __future__ import annotations

import re
import zipfile
from datetime import timedelta
from io import BytesIO

import pytest
from django.conf import LazySettings
from icalendar import Calendar

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from as2certs.mail.delivery import build_email
from as2certs.mail.models import Message
from partners.models import Contact
from rotations.errors import ActionRefused
from rotations.letters import access_links, announcements
from rotations.letters.announcements import announce, build_previews
from rotations.letters.calendar_invite import build_calendar_file
from rotations.letters.texts import deadline_facts, format_timing, window_facts
from rotations.lifecycle import endings, rescheduling
from rotations.models import Letter, Link, Participant, Rotation
from rotations.web.portal.page import PortalPage
from tests.rotations.company import CHICAGO, NOW, Company, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db


def announce_to(company: Company, participant: Participant) -> Letter:
    (letter,) = announce(participant, by=company.by, now=NOW)
    return letter


def url_in(message: Message) -> str:
    """Return the personal link of a mail as it is sent."""
    found = re.search(r"http\S+/p/\S+/", str(build_email(message).body))
    assert found, build_email(message).body
    return found[0]


def files_of(message: Message) -> dict[str, bytes]:
    return {a.name: bytes(a.content) for a in message.attachments.all()}


def test_the_preview_is_what_is_sent(company: Company, rotation: Rotation, northwind: Participant) -> None:
    (envelope,) = build_previews(rotation, [northwind], now=NOW)
    shown = envelope.letters[0].message
    sent = announce_to(company, northwind).message
    assert (sent.subject, sent.text, sent.html) == (shown.subject, shown.text, shown.html)
    assert {f.name: f.content for f in envelope.letters[0].mail.attachments} == files_of(sent)


def test_the_first_sentence_sums_up_the_letter(company: Company, northwind: Participant) -> None:
    text = announce_to(company, northwind).message.text
    first = " ".join(text.partition("\n\n")[0].split())
    assert first.startswith("Our company changes its AS2 certificate (ACME-PROD): please add the new one beside")
    assert first.endswith(" the old one by Thu 3 Dec 2026, 22:00 CST.")


def test_it_lists_everything_that_has_to_be_compared(company: Company, northwind: Participant) -> None:
    text = announce_to(company, northwind).message.text
    new = company.new
    assert pki.format_fingerprint(new.sha256) in text
    assert pki.format_fingerprint(new.sha1) in text
    assert "ACME-PROD" in text
    assert "NORTHWIND" in text
    assert "Thu 3 Dec 2026, 22:00 to 23:00 CST (UTC−06:00)" in text
    assert "Fri 4 Dec 2026, 04:00 to 05:00 UTC" in text
    assert "Alice Adler, +49 30 901820, alice@example.com" in text


def test_the_mail_and_its_calendar_entry_name_each_moment(company: Company, northwind: Participant) -> None:
    message = announce_to(company, northwind).message
    moments = {
        "Answer by": "Tue 1 Dec 2026, 22:00 CST (UTC−06:00)",  # two working days before
        "Add it by": "Thu 3 Dec 2026, 22:00 CST (UTC−06:00)",
        "The change": "Thu 3 Dec 2026, 22:00 to 23:00 CST (UTC−06:00)",
    }
    text = " ".join(message.text.split())
    event = Calendar.from_ical(files_of(message)["change.ics"]).walk("VEVENT")[0]
    for name, moment in moments.items():
        assert re.search(rf"{name}:? {re.escape(moment)}", text), name
        assert f"{name}: {moment}" in str(event["description"]).splitlines()


def test_the_lead_of_answers_can_be_set(company: Company, northwind: Participant, settings: LazySettings) -> None:
    settings.AS2CERTS_ANSWER_DAYS = 4
    Installation.objects.update_or_create(pk=1, defaults={"works_days": [0, 1, 2, 3], "time_zone": CHICAGO})
    # From Thursday 22:00 in Chicago: Wednesday, Tuesday, Monday and the Thursday before.
    text = " ".join(announce_to(company, northwind).message.text.split())
    assert re.search(r"Answer by:? Thu 26 Nov 2026, 22:00 CST", text)


def test_a_cancelled_entry_names_no_deadline(company: Company, rotation: Rotation, northwind: Participant) -> None:
    announce_to(company, northwind)
    endings.cancel(rotation, reason="Wrong key", by=company.by, now=NOW)
    message = Letter.objects.get(kind=Letter.Kind.CANCELLED).message
    assert b"Answer by" not in files_of(message)["change.ics"]


def test_what_to_do_comes_from_the_plan(company: Company, rotation: Rotation, northwind: Participant) -> None:
    text = " ".join(announce_to(company, northwind).message.text.split())
    assert "1. Add our new certificate beside the old one" in text
    assert "Encrypt your messages to us with the new certificate" in text
    assert "your system then sends orders again that we have already processed" in text


def test_the_certificate_is_attached_in_every_form(company: Company, northwind: Participant) -> None:
    files = files_of(announce_to(company, northwind).message)
    stem = f"ACME-{company.new.sha256[:8]}"
    assert set(files) == {f"{stem}.pem", f"{stem}.cer", f"{stem}.zip", "change.ics"}
    assert pki.read_public(files[f"{stem}.cer"], partner=False).leaf == company.new.certificate
    assert f"{stem}.pem" in zipfile.ZipFile(BytesIO(files[f"{stem}.zip"])).namelist()


def test_pkcs7_goes_to_those_who_prefer_it(company: Company, northwind: Participant) -> None:
    northwind.partner.wants_pkcs7 = True
    northwind.partner.save()
    assert any(name.endswith(".p7b") for name in files_of(announce_to(company, northwind).message))


def test_replies_go_to_the_owner(company: Company, northwind: Participant) -> None:
    assert announce_to(company, northwind).message.reply_to == "alice@example.com"


def test_the_link_is_in_the_sent_mail_and_not_in_the_database(company: Company, northwind: Participant) -> None:
    letter = announce_to(company, northwind)
    url = url_in(letter.message)
    token = url.rstrip("/").rsplit("/", 1)[1]
    assert access_links.find_link(token) == letter.link
    everything = repr(list(Message.objects.values())) + repr(list(Link.objects.values()))
    everything += repr(list(Entry.objects.values())) + repr(list(Letter.objects.values()))
    assert token not in everything


def test_the_calendar_entry_holds_no_link_and_a_uid_that_stays(company: Company, northwind: Participant) -> None:
    first = Calendar.from_ical(files_of(announce_to(company, northwind).message)["change.ics"])
    event = first.walk("VEVENT")[0]
    assert first["method"] == "REQUEST"
    assert (event["sequence"], str(event["uid"]).split("@")[0]) == (0, str(northwind.uid))
    assert event.decoded("dtstart") == STARTS
    assert "/p/" not in first.to_ical().decode()


def test_a_postponement_counts_the_entry_up_and_a_cancellation_takes_it_back(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    announce_to(company, northwind)
    later = window(STARTS + timedelta(days=1))
    rescheduling.postpone(rotation, rescheduling.WindowChange(later, reason="Inventory count"), by=company.by, now=NOW)
    moved = Letter.objects.get(kind=Letter.Kind.MOVED)
    assert moved.participant == northwind  # nobody else has heard of it yet
    assert "Inventory count" in moved.message.text
    event = Calendar.from_ical(files_of(moved.message)["change.ics"]).walk("VEVENT")[0]
    assert (event["sequence"], event.decoded("dtstart")) == (1, later.start)
    endings.cancel(rotation, reason="Not needed", by=company.by, now=NOW)
    gone = Letter.objects.get(kind=Letter.Kind.CANCELLED)
    entry = Calendar.from_ical(files_of(gone.message)["change.ics"])
    assert entry["method"] == "CANCEL"
    assert entry.walk("VEVENT")[0]["sequence"] == 2
    assert entry.walk("VEVENT")[0]["uid"] == event["uid"]


def test_calendars_see_the_entry_as_another_form_of_the_text(company: Company, northwind: Participant) -> None:
    message = build_email(announce_to(company, northwind).message).message()
    types = [part["Content-Type"] for part in message.walk() if part.get_content_type() == "text/calendar"]
    assert len(types) == 2  # one to be offered by the calendar, one to be kept as a file
    assert all("method" in str(kind) and "REQUEST" in str(kind) for kind in types)


def test_announcing_settles_only_its_step(company: Company, rotation: Rotation, northwind: Participant) -> None:
    announce_to(company, northwind)
    step = northwind.steps.get(act="announce")
    assert (step.state, step.note) == ("done", "mail to nora@northwind.example")
    northwind.refresh_from_db()
    assert northwind.announced_at == NOW
    assert northwind.steps.get(act="install").state == "waiting"


def test_several_contacts_get_a_mail_each_with_a_link_of_their_own(company: Company, northwind: Participant) -> None:
    Contact.objects.create(partner=northwind.partner, name="Ned Night", email="ned@northwind.example")
    letters = announce(northwind, by=company.by, now=NOW)
    assert {letter.message.to_address for letter in letters} == {
        "nora@northwind.example",
        "ned@northwind.example",
    }
    assert len({url_in(letter.message) for letter in letters}) == 2
    assert all("One answer is enough" in letter.message.text for letter in letters)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"email": ""}, "No contact of Northwind has an e-mail address"),
        ({"notify_new_certificates": False}, "No contact of Northwind is to be told this by mail"),
        ({"suggested_by": "Somebody"}, "No contact of Northwind is known"),
    ],
)
def test_it_explains_why_nobody_would_be_reached(
    company: Company, rotation: Rotation, northwind: Participant, change: dict[str, object], said: str
) -> None:
    Contact.objects.filter(partner=northwind.partner).update(**change)
    (envelope,) = build_previews(rotation, [northwind], now=NOW)
    assert envelope.obstacle.startswith(said)
    with pytest.raises(ActionRefused, match=said):
        announce(northwind, by=company.by, now=NOW)
    assert not Letter.objects.exists()


def test_nothing_is_announced_before_the_key_is_staged(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    rotation.steps.filter(act="stage").update(state="waiting", done_at=None)
    rotation.steps.filter(act="announce").update(blocked=True)
    with pytest.raises(ActionRefused, match="Not yet: first “Load"):
        announce(northwind, by=company.by, now=NOW)


def test_a_shared_link_counts_as_an_announcement(company: Company, northwind: Participant) -> None:
    fresh = announcements.share_link(northwind, by=company.by, now=NOW)
    assert access_links.find_link(fresh.url.rstrip("/").rsplit("/", 1)[1]) == fresh.link
    northwind.refresh_from_db()
    assert northwind.announced_at == NOW
    assert fresh.url not in repr(fresh)
    assert not Message.objects.exists()


def test_the_letter_sent_to_oneself_is_the_one_that_partners_get(company: Company, northwind: Participant) -> None:
    announcements.send_test_copy(northwind, company.alice, now=NOW)
    mine = Message.objects.get()
    assert (mine.to_address, mine.kind) == ("alice@example.com", "preview")
    assert "/p/" not in str(build_email(mine).body)
    assert f"/rotations/partners/{northwind.uid}/as-partner/" in str(build_email(mine).body)
    northwind.refresh_from_db()
    assert northwind.announced_at is None
    assert announce_to(company, northwind).message.text == mine.text


@pytest.mark.parametrize(("state", "is_open"), [("waiting", True), ("done", False), ("skipped", False)])
def test_the_certificate_is_to_be_added_by_one_moment_everywhere_also_after_the_window_moved(
    company: Company, rotation: Rotation, northwind: Participant, state: str, is_open: bool
) -> None:
    announce_to(company, northwind)
    northwind.steps.filter(act="install").update(state=state)  # settled steps keep the moments of their window
    starts = STARTS + timedelta(days=1, seconds=30)
    ends = STARTS + timedelta(days=1, hours=1)
    Rotation.objects.filter(pk=rotation.pk).update(window_start=starts, window_end=ends)
    page = PortalPage.of(northwind, now=NOW)
    context = page.context
    moment = "Fri 4 Dec 2026, 22:00:30 CST"
    (install,) = [one for one in context.instructions() if one.act == "install"]
    (shown,) = [one for one in page.instructions if one.instruction.act == "install"]
    assert format_timing(install, context) == shown.when == f"by {moment}"
    assert install.done == shown.done == (state == "done")
    assert page.install_by == (moment if is_open else "")
    told = {fact.label: fact.value for fact in deadline_facts(context)}
    assert told.get("Add it by") == (f"{moment} (UTC−06:00)" if is_open else None)
    calendar = build_calendar_file(context, method="PUBLISH", sequence=1).content.decode().replace("\r\n ", "")
    assert (f"Add it by: {moment}".replace(",", "\\,") in calendar) == is_open
    assert "DTSTART:20261205T040030Z" in calendar
    window = "Fri 4 Dec 2026, 22:00:30 to 23:00 CST (UTC−06:00)"
    assert page.window == window_facts(page.participant, page.zone)[0].value == window
