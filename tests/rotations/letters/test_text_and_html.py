"""Each kind of mail holds the same links, fingerprints, times, names and numbers in HTML and in plain text."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings

from as2certs.accounts import four_eyes_setting
from as2certs.accounts.models import Installation
from as2certs.mail.models import Message
from partners.models import Contact, Partnership, StationBaseline, TlsCertificate
from rotations import reminders
from rotations.exchange import certificate_requests, digest
from rotations.letters import announcements
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.letters.texts import FIXED_TEXTS
from rotations.lifecycle.evidence.changeover import ObservedMessage, record_sighting
from rotations.models import HandedIn, Letter, Participant
from rotations.notifications import applied_mail, exchange_mail, outcome_mail, station_mail, window_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.notifications.outcome_mail import WayBack
from rotations.notifications.texts import SilentPartner
from rotations.planning.partner_actions import STARTED_BY
from tests.people import make_person
from tests.rotations.company import NOW, Company, partner_certificate
from tests.rotations.exchange.incoming import put_in_use
from tests.rotations.notifications.expiries import make_certificate, make_identity, make_rotation

DAY = timedelta(days=1)


class _HtmlFacts(HTMLParser):
    """Collects the visible text and the links of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("style", "title", "script")
        given = dict(attrs)
        if tag == "a":
            self.links.add(given.get("href") or "")
        if tag in ("img", "script", "link", "iframe", "object", "form") or {"src", "background"} & given.keys():
            self.loads.append(tag)
        if tag in ("br", "p", "td", "tr", "span"):
            self.text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "title", "script")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text.append(data)


def parse_html(html: str) -> _HtmlFacts:
    reading = _HtmlFacts()
    reading.feed(html)
    return reading


LINK = re.compile(r"https?://[^\s<>]+|~~link~~")


def numbers(text: str) -> set[str]:
    """Return all words that contain a digit: dates, times, fingerprints, serials, counts, phone numbers."""
    words = (word.strip(".,;:()[]'’“”!?") for word in LINK.sub(" ", text).split())
    return {word for word in words if any(c.isdigit() for c in word)}


@pytest.fixture
def all_kinds(northwind: Participant, fabrikam: Participant, company: Company) -> list[Message]:
    """Return at least one mail of each kind, in time zones other than UTC."""
    rotation, at = northwind.rotation, NOW + timedelta(hours=1)
    company.alice.time_zone = "Europe/Berlin"
    company.alice.save()
    Installation.objects.update_or_create(pk=1, defaults={"name": "Meridian Foods"})
    Contact.objects.create(partner=northwind.partner, name="Ned Night", email="ned@northwind.example")
    assert rotation.window_start is not None
    announcements.announce(northwind, by=company.approver, now=NOW)
    nora = northwind.partner.contacts.get(name="Nora North")
    for kind in (Letter.Kind.NUDGE, *FIXED_TEXTS):
        send_letters(LetterContext.of(northwind, now=at), kind, [nora], by=company.by, note="Please call 4711 first.")
    put_in_use(company, northwind.partner)
    certificate_requests.send_request(northwind.partner, by=company.by, now=NOW)
    window_mail.notify_window_soon(rotation.window_start - timedelta(minutes=50))
    type(rotation).objects.filter(pk=rotation.pk).update(at_end="phased")
    alone = rotation.steps.create(key="alone", position=99, who="we", act="cut_over", title="A", participant=northwind)
    assert rotation.window_end is not None
    window_mail.notify_last_moment_soon(rotation.window_end - timedelta(minutes=10))
    type(rotation).objects.filter(pk=rotation.pk).update(at_end="")
    alone.delete()
    outcome_mail.notify_applied([(rotation, True)], at)
    together = [make_rotation(make_certificate(make_identity(name, owners=[company.alice]), NOW)) for name in "AB"]
    applied_mail.record_applied([(changed, True) for changed in together], at)
    applied_mail.notify_recorded(at)
    type(rotation).objects.filter(pk__in=[changed.pk for changed in together]).update(state="cancelled")
    outcome_mail.notify_needs_attention(rotation, rotation.steps.first(), "The folder is full: 0 bytes left.", at)
    last = rotation.steps.last()
    assert last is not None
    outcome_mail.notify_own_step_open(rotation, last, "Only our own test is not recorded.", at=at)
    window_mail.notify_not_started(rotation.window_start + STARTED_BY)
    outcome_mail.notify_forced(
        rotation, "decided to go on without Fabrikam", "They are closed.", by=company.approver, at=at
    )
    for one in (None, northwind):
        tasks = ["Go back to the old certificate in OpenAS2 2"]
        way = WayBack(rotation, "No MDN since 9:15.", "Bob", None, at, tasks, one)
        outcome_mail.notify_way_back(way, now=at)
    outcome_mail.notify_cancelled(rotation, "The auditors asked for another key.", by=company.approver, at=at)
    news = PartnerNews(News.PROPOSAL, "Northwind proposes 17:30", "We are closed until 9.")
    exchange_mail.notify_partner_response(northwind, news, at=at)
    partners = [SilentPartner("Northwind", "told", [("Nora North", "+1 312 555 0100")], "2 mails", "")]
    exchange_mail.notify_silent_partners(
        rotation, lambda zone: partners, silent=[northwind], event="e", escalate_to=None, at=at
    )
    handed = HandedIn.objects.create(
        partner=northwind.partner,
        certificate=partner_certificate(northwind.partner, by=company.by, now=NOW, ends=NOW + 99 * DAY),
        roles=["verify"],
        submitted_by="Nora North",
        at=NOW,
    )
    exchange_mail.notify_submitted(handed, rotation, at=at)
    northwind.partner.owners.add(company.alice)
    seen = ObservedMessage("signed", "0x1A2B", at, issuer="CN=Northwind CA 7", sha256="AB" * 32)
    record_sighting(northwind.partner, seen, by=company.by, now=at)
    difference = {
        "where": "OpenAS2",
        "role": "sign",
        "partner": "",
        "found": ["ab" * 32],
        "expected": [company.old.sha256],
    }
    assert company.system is not None
    StationBaseline.objects.create(
        system=company.system, identity=company.identity, due_at=at, differences=[difference], differs_since=at
    )
    station_mail.notify_differences(at)
    TlsCertificate.objects.create(
        identity=company.identity,
        url="https://as2.acme.example/in",
        due_at=at,
        sha256="ef" * 32,
        not_after=at + 5 * DAY,
        is_reviewed=False,
    )
    station_mail.notify_tls_certificates(at)
    Partnership.objects.filter(partner=northwind.partner).update(probes_fail_since=at)
    station_mail.notify_failing_probes(at)
    digest.send_digests(NOW + DAY)
    type(rotation).objects.filter(pk=rotation.pk).update(window_end=company.old.not_after + DAY)
    window_mail.notify_too_late(at)
    type(rotation).objects.filter(pk=rotation.pk).update(at_end="phased", window_end=rotation.window_start + DAY)
    rotation.steps.filter(act="cut_over").update(participant=northwind, state="waiting")
    window_mail.notify_last_moment_soon(rotation.window_start)
    make_person("anna", "approver", time_zone="Europe/Berlin")
    Installation.objects.update(four_eyes_production=True)
    four_eyes_setting.ask_to_switch_off(["production"], by=company.approver, now=at)
    type(rotation).objects.filter(pk=rotation.pk).update(state="draft")
    reminders.send_due(company.old.not_after - 3 * DAY)
    return list(Message.objects.order_by("id"))


def test_html_and_text_hold_the_same_facts(all_kinds: list[Message]) -> None:
    folder = Path(settings.BASE_DIR) / "templates" / "emails"
    own = {path.name.partition(".")[0] for path in folder.glob("*.subject.txt")} - {"partner", "applied_together"}
    assert {m.kind for m in all_kinds} == own | {f"partner_{kind}" for kind in Letter.Kind}
    names = (
        "Northwind",
        "Fabrikam",
        "ACME",
        "Nora North",
        "Ned Night",
        "Alice Adler",
        "Meridian Foods",
        "TEST",
    )
    wrong = []
    for mail in all_kinds:
        html = parse_html(mail.html)
        shown = " ".join("".join(html.text).split())
        text = " ".join(mail.text.split())
        for what, in_html, in_text in (
            ("links", html.links, set(LINK.findall(text))),
            ("numbers", numbers(shown), numbers(text)),
            ("names", {n for n in names if n in shown}, {n for n in names if n in text}),
        ):
            if in_html != in_text:
                wrong.append((mail.kind, what, sorted(in_html - in_text), sorted(in_text - in_html)))
    assert wrong == []


def test_no_mail_loads_anything_or_sends_anything_when_it_is_opened(all_kinds: list[Message]) -> None:
    for mail in all_kinds:
        assert parse_html(mail.html).loads == [], mail.kind
        assert "url(" not in mail.html, mail.kind


def test_the_comparison_finds_what_one_of_them_lacks() -> None:
    html = parse_html(
        '<p>At 17:30, <b>AA:BB</b></p><style>a { color: #123 }</style><a href="https://x.example/1">Open</a>'
    )
    assert numbers("".join(html.text)) == {"17:30"}
    assert html.links == {"https://x.example/1"}
    assert numbers("At 17:31: https://x.example/1") == {"17:31"}
    assert parse_html('<p><img src="https://x.example/p.gif"></p>').loads == ["img"]
