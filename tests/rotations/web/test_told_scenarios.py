"""What people are told is true: scenarios against pages, forms, mails and partners' pages, with a clock that is moved.

They were written from the description of what must hold, not from the code. Scenarios whose rule has a test of the
domain functions too are left to the extended tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import Certificate
from django.conf import LazySettings
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from identities.models import AS2System, Identity, IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate, Partnership
from rotations.models import Participant, Rotation
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.certificates import cert_pem, make_pair, p12
from tests.people import make_person
from tests.rotations.company import NOW, Company, make_company, partner_certificate
from tests.rotations.web.desk import Browser, World, fixed_clock, link_in, mails_to, words
from tests.rotations.web.portal.conftest import with_contacts

pytestmark = pytest.mark.django_db
#: Writing to an AS2 system closes connections that a transaction of the test would need on PostgreSQL.
writes_to_system = pytest.mark.django_db(transaction=True)

#: Thu 3 Dec 2026, 22:00 CST.
STARTS = datetime(2026, 12, 4, 4, tzinfo=UTC)
ENDS = STARTS + timedelta(hours=1)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass
class Office:
    """Olivia operates, Amir approves, Alice owns ACME."""

    company: Company
    world: World
    olivia: Browser
    amir: Browser

    def draft(self, **fields: object) -> Rotation:
        """Draft ACME's rotation as Olivia does, with the window Thu 3 Dec 22:00 to 23:00 in Chicago."""
        given: dict[str, object] = {
            "successor": "inventory",
            "certificate": str(self.company.new.uid),
            "window_date": "2026-12-03",
            "window_from": "22:00",
            "window_until": "23:00",
            "window_zone": "America/Chicago",
        }
        self.olivia.open(f"{reverse('rotation-create')}?identity={self.company.identity.uid}")
        self.olivia.press("Set up the draft", **{**given, **fields})
        if any(b[2] == "Set up the draft" for f in self.olivia.forms for b in f.buttons):
            form, _ = self.olivia.form("Set up the draft")
            assert "window_known" in form.names, self.olivia.text
            self.olivia.press("Set up the draft", window_known=form.choices["window_known"][0])
        return Rotation.objects.latest("pk")

    def approve(self, rotation: Rotation) -> Rotation:
        self.amir.go("rotation-approve", rotation.uid)
        self.amir.press("Approve")
        self.world.carry_out()
        rotation.refresh_from_db()
        assert rotation.state != "draft", self.amir.text
        return rotation

    def start(self, **fields: object) -> Rotation:
        return self.approve(self.draft(**fields))

    def announce(self, rotation: Rotation) -> None:
        self.olivia.go("rotation-announce", rotation.uid)
        self.olivia.press("Send")
        self.world.carry_out()

    def show(self, rotation: Rotation) -> str:
        """Return what Olivia reads on the rotation's page."""
        return self.olivia.open(rotation.get_absolute_url())

    def record_answer(self, participant: Participant, **fields: str) -> str:
        """Record what a partner said on the telephone."""
        self.olivia.go("participant-confirm", participant.uid)
        return self.olivia.press("Record", spoke_with="somebody", **fields)

    def prove(self, participant: Participant, **fields: str) -> str:
        return self.record_answer(participant, fingerprint=self.company.new.sha256, **fields)

    def note_message(self, partner: Partner, use: str, certificate: object, **fields: str) -> str:
        """Note which certificate a message of a partner used, as an operator reads it in the log."""
        self.olivia.go("partner-seen", partner.uid)
        serial = f"{certificate.certificate.serial_number:X}" if hasattr(certificate, "certificate") else certificate
        return self.olivia.press("Note this message", use=use, serial=serial, **fields)

    def do_step(self, rotation: Rotation, title: str) -> str:
        """Record a step of ours as done whose title begins so; its form must be on the page."""
        step = next(s for s in rotation.steps.exclude(state="done") if s.title.startswith(title))
        self.show(rotation)
        form = next(f for f in self.olivia.forms if f.action == reverse("rotation-step-done", args=[step.uid]))
        self.olivia.page = self.olivia.client.post(form.action, form.values, follow=True)
        self.world.carry_out()
        return self.olivia.text

    def see_as(self, participant: Participant) -> str:
        """Return what the partner sees on its page."""
        return self.olivia.go("participant-as-partner", participant.uid)


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    return fixed_clock(monkeypatch)


def open_office(world: World, **columns: object) -> Office:
    company = with_contacts(make_company(**columns))  # type: ignore[arg-type]
    make_person("anna", "administrator")
    olivia, amir = Browser(make_person("olivia", "operator")), Browser(make_person("amir", "approver"))
    return Office(company, world, olivia, amir)


@pytest.fixture
def by_hand(world: World) -> Office:
    """An AS2 system that is changed by hand, and can read two certificates side by side."""
    return open_office(world, connector="manual")


@pytest.fixture
def connected(world: World, tmp_path: object, settings: LazySettings) -> Office:
    """An AS2 system that the application changes by itself, and that can read two certificates side by side."""
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return open_office(world)


@pytest.fixture
def one_slot(world: World) -> Office:
    """Everybody holds one certificate: both sides change together, by hand on our side."""
    return open_office(world, connector="manual", system_keeps_both="no", partners_keep_both="no")


def add_partner(company: Company, name: str, **columns: object) -> Partner:
    partner = Partner.objects.create(name=name, as2_id=name.upper(), time_zone="America/Chicago", **columns)
    Partnership.objects.create(identity=company.identity, partner=partner)
    Contact.objects.create(partner=partner, name=f"{name} Desk", email=f"desk@{name.lower()}.example")
    return partner


def of(rotation: Rotation, name: str) -> Participant:
    return rotation.participants.select_related("partner").get(partner__name=name)


def assert_is_not_asked_to_switch(shown: str) -> None:
    """It has switched: a page may say that it could, and asks for nothing."""
    assert "Switch when it suits you" not in shown
    assert "We use the new certificate now" not in shown


def last_link(address: str) -> str:
    """Return the link of the last mail that left for somebody."""
    for sent in reversed(mail.outbox):
        if sent.to[0].endswith(address) or address in sent.to[0]:
            link = link_in(str(sent.body))
            if link:
                return link
    raise AssertionError(f"No mail with a link for {address}")


def last_mail(address: str, kind: str) -> str:
    found = [m for m in mails_to(address) if m.kind == kind]
    assert found, [(m.kind, m.subject) for m in mails_to(address)]
    return words(found[-1])


SWITCH_NOW = (
    "We can read both from now on",
    "We accept both from now on",
    "You may do so from now on",  # once it has, that is history
    "Switch when it suits you",
    "We use the new certificate now",
)


# 1. Nobody is asked for what our side does not allow yet.


def test_a_partner_whose_answer_is_recorded_is_not_told_to_switch_while_we_cannot_read(by_hand: Office) -> None:
    rotation = by_hand.start()
    fabrikam = of(rotation, "Fabrikam")
    by_hand.prove(fabrikam)
    shown = by_hand.see_as(fabrikam)
    assert not [sentence for sentence in SWITCH_NOW if sentence in shown]
    by_hand.world.at(NOW + DAY)
    digest = last_mail("alice", "digest")
    assert "still have to switch" not in digest
    assert "Load" in digest  # our own step is what is named
    shown = by_hand.see_as(fabrikam)
    assert not [sentence for sentence in SWITCH_NOW if sentence in shown]


@pytest.mark.extended
def test_no_link_is_given_out_while_we_cannot_read(by_hand: Office) -> None:
    rotation = by_hand.start()
    fabrikam = of(rotation, "Fabrikam")
    by_hand.record_answer(fabrikam, installed="on")
    by_hand.olivia.go("participant-share", fabrikam.uid)
    assert "Not yet: first “Load" in by_hand.olivia.text
    by_hand.do_step(rotation, "Load")
    by_hand.olivia.go("participant-share", fabrikam.uid)
    assert "Not yet" not in by_hand.olivia.text


@pytest.mark.extended
def test_a_partner_is_told_to_switch_once_we_can_read(by_hand: Office) -> None:
    rotation = by_hand.start()
    fabrikam = of(rotation, "Fabrikam")
    by_hand.prove(fabrikam)
    by_hand.do_step(rotation, "Load")
    shown = by_hand.see_as(fabrikam)
    assert "We can read both from now on" in shown
    assert "We use the new certificate now" in shown


# 2. Evidence that comes early is kept.


def test_a_message_noted_before_we_can_read_settles_the_partners_switch_later(by_hand: Office) -> None:
    rotation = by_hand.start()
    fabrikam = of(rotation, "Fabrikam")
    by_hand.note_message(fabrikam.partner, "encrypted", by_hand.company.new)
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    by_hand.world.at(NOW + DAY)
    for digest in (m for m in mails_to("alice") if m.kind == "digest"):
        assert "still have to switch: Fabrikam" not in words(digest)
    shown = by_hand.see_as(fabrikam)
    assert_is_not_asked_to_switch(shown)
    assert "Done" in shown


@pytest.mark.extended
def test_a_message_noted_while_the_rotation_is_a_draft_counts_after_approval(by_hand: Office) -> None:
    rotation = by_hand.draft()
    by_hand.note_message(by_hand.company.partners[0], "encrypted", by_hand.company.new)
    by_hand.approve(rotation)
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    shown = by_hand.see_as(of(rotation, "Fabrikam"))
    assert_is_not_asked_to_switch(shown)


@pytest.mark.extended
def test_a_message_with_a_certificate_that_nobody_has_compared_asks_to_compare_it_now(by_hand: Office) -> None:
    rotation, _, new = partner_rotation(by_hand)
    by_hand.approve(rotation)
    raised = "Northwind already signs with a certificate that you have not compared: compare it now"
    assert raised in by_hand.note_message(by_hand.company.partners[1], "signed", new)
    assert raised in by_hand.show(rotation)
    assert raised in by_hand.olivia.go("home")
    by_hand.world.tick()
    assert raised in last_mail("anna", "early_evidence")


@pytest.mark.extended
def test_a_message_noted_while_the_rotation_is_a_draft_asks_to_approve_it(by_hand: Office) -> None:
    _, _, new = partner_rotation(by_hand)
    raised = "Northwind already signs with the new certificate, and its rotation is still a draft: approve it now"
    assert raised in by_hand.note_message(by_hand.company.partners[1], "signed", new)
    assert raised in by_hand.olivia.go("home")


@pytest.mark.extended
def test_a_message_with_an_unknown_certificate_is_named_by_issuer_and_serial(by_hand: Office) -> None:
    northwind = by_hand.company.partners[1]
    partner_certificate(northwind, by=by_hand.company.by, now=NOW, ends=NOW + 40 * DAY)
    by_hand.note_message(northwind, "signed", "0123456789ABCDEF", issuer="CN=Other CA")
    for shown in (by_hand.olivia.go("home"), by_hand.olivia.go("partner-detail", northwind.uid)):
        assert "Other CA" in shown
        assert re.search(r"0?1:23:45:67:89:AB:CD:EF", shown), shown


# 3 and 17. One count everywhere.


def all_counts(text: str) -> set[str]:
    return {f"{a} of {b}" for a, b in re.findall(r"\b(\d+) (?:of|/) (\d+) (?:partners )?ready", text)}


def test_page_home_digest_mail_and_report_agree_who_is_ready(by_hand: Office) -> None:
    for name in ("Contoso", "Litware", "Proseware"):
        add_partner(by_hand.company, name, **keeps_both())
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    by_hand.prove(of(rotation, "Fabrikam"))
    by_hand.record_answer(of(rotation, "Northwind"), installed="on")  # its word only
    by_hand.world.at(NOW + 7 * DAY)
    shown = by_hand.show(rotation)
    home = by_hand.olivia.go("home")
    report = by_hand.olivia.go("rotation-report", rotation.uid)
    digest = last_mail("alice", "digest")
    counts = {name: all_counts(text) for name, text in {"page": shown, "home": home, "digest": digest}.items()}
    assert counts["page"] == counts["home"] == counts["digest"] != set(), counts
    assert all_counts(report) <= counts["page"], all_counts(report)
    assert re.search(r"1 verified, 1 unverified, 3 outstanding", shown), shown
    assert "Outstanding 3" in shown
    assert "Verified 1" in shown
    by_hand.world.at(STARTS - DAY)
    soon = last_mail("alice", "window_soon")
    for name in ("Contoso", "Litware", "Proseware"):
        assert name in soon
    assert "Fabrikam" not in soon.split("Not ready")[-1].split("Window")[0]


@pytest.mark.extended
def test_partners_that_wait_for_us_are_counted_alike_in_digest_and_mail(by_hand: Office) -> None:
    add_partner(by_hand.company, "Contoso", **keeps_both())
    rotation = by_hand.start()
    by_hand.prove(of(rotation, "Fabrikam"))
    by_hand.world.at(NOW + 2 * DAY)
    digest = last_mail("alice", "digest")
    assert all_counts(digest) == all_counts(by_hand.show(rotation)) == {"1 of 3"}
    assert "Contoso" in digest
    assert "Northwind" in digest
    assert "Fabrikam" not in digest
    by_hand.world.at(STARTS - DAY)
    soon = last_mail("alice", "window_soon")
    assert "Contoso" in soon
    assert "Northwind" in soon
    assert "Fabrikam" not in soon


@pytest.mark.extended
@pytest.mark.parametrize("switched", [["Fabrikam"], ["Fabrikam", "Northwind"]], ids=["one", "both"])
def test_after_a_missed_window_the_digest_names_our_own_open_step(by_hand: Office, switched: list[str]) -> None:
    rotation = start_by_hand(by_hand)
    by_hand.world.at(STARTS + MINUTE)
    for name in switched:
        by_hand.note_message(of(rotation, name).partner, "encrypted", by_hand.company.new)
    by_hand.world.at(ENDS + 4 * HOUR)
    digest = last_mail("alice", "digest")
    sign = rotation.steps.get(act="cut_over").title
    assert digest.startswith("ACME: a step of ours is open, the window is over")
    assert f"waits for a step of ours: “{sign}”" in digest
    assert f"YOUR TURN: {sign}" in digest
    assert "2 of 2 ready" in digest
    assert "outstanding" not in digest
    assert "Northwind" not in digest
    assert "of 2 partners" not in digest


@pytest.mark.extended
def test_the_digest_calls_nobody_outstanding_who_is_late_after_the_change(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand)
    by_hand.world.at(STARTS + MINUTE)
    by_hand.note_message(of(rotation, "Fabrikam").partner, "encrypted", by_hand.company.new)
    by_hand.do_step(rotation, "Sign")
    by_hand.world.at(ENDS + 4 * HOUR)
    digest = last_mail("alice", "digest")
    assert digest.startswith("ACME: 1 partner late, the window is over")
    assert "1 of 2 partners is late with ACME's certificate change" in digest
    assert "outstanding" not in digest


# 4. Seconds of a window.


def test_seconds_of_a_window_survive_the_form_and_the_trail(by_hand: Office) -> None:
    rotation = by_hand.draft(window_from="22:00:30", window_until="22:59:45")
    by_hand.olivia.go("rotation-update", rotation.uid)
    form, _ = by_hand.olivia.form("Save the draft")
    assert form.values["window_from"] == ["22:00:30"]
    assert form.values["window_until"] == ["22:59:45"]
    by_hand.olivia.press("Save the draft")
    rotation.refresh_from_db()
    assert rotation.window_start == STARTS + timedelta(seconds=30)
    assert rotation.window_end == STARTS + timedelta(minutes=59, seconds=45)
    by_hand.approve(rotation)
    by_hand.olivia.go("rotation-postpone", rotation.uid)
    move = "Move the change to this window"
    by_hand.olivia.press(move, window_date="2026-12-04", window_from="22:00:10", reason="Night shift")
    shown = by_hand.show(rotation)
    assert "22:00:30–22:59:45" in shown
    assert "22:00:10" in shown


# 5. A window without a fixed moment.


def start_and_announce(office: Office, **fields: object) -> Rotation:
    """Approve a rotation, let the new key be loaded, announce it, and record that all partners have it."""
    rotation = office.start(**fields)
    office.announce(rotation)
    for participant in rotation.participants.all():
        office.prove(participant)
    return rotation


@writes_to_system
def test_a_change_at_the_first_evidence_inside_the_window_is_not_called_late(connected: Office) -> None:
    rotation = start_and_announce(connected, at_end="switch", window_until="05:00")
    connected.world.at(STARTS + 2 * HOUR)
    connected.note_message(connected.company.partners[0], "encrypted", connected.company.new)
    connected.world.tick()
    told = last_mail("alice", "applied")
    assert "late" not in told
    assert "late" not in connected.show(rotation).split("Trail")[0]


# 6. What is in use is what the inventory says.


def expired_pair(name: str) -> tuple[Certificate, RSAPrivateKey]:
    return make_pair(name, not_before=NOW - 800 * DAY, not_after=NOW - 3 * DAY)


def test_our_expired_certificate_that_is_in_use_is_recorded_with_a_warning_and_a_reason(by_hand: Office) -> None:
    lone = Identity.objects.create(name="Retail", as2_id="RETAIL", as2_system=by_hand.company.system)
    leaf, key = expired_pair("RETAIL")
    by_hand.olivia.go("identity-upload", lone.uid)
    text = upload_despite_warnings(by_hand.olivia, p12((leaf, key)), reason="It is really in use; renewal is late")
    certificate = IdentityCertificate.objects.get(identity=lone)
    by_hand.world.tick()
    shown = by_hand.olivia.go("identity-detail", lone.uid)
    assert "expired" in shown, text
    assert certificate.short_name in shown
    by_hand.olivia.open(f"{reverse('rotation-create')}?identity={lone.uid}")
    form, _ = by_hand.olivia.form("Set up the draft")
    assert str(certificate.uid) in form.choices["old"]
    assert form.choices["old"], by_hand.olivia.text


def upload_despite_warnings(browser: Browser, content: bytes, reason: str) -> str:
    """Upload a file and, asked about warnings, go on with a reason."""
    form = next(f for f in browser.forms if "certificate_text" in f.names)
    label = form.buttons[-1][2]
    data: dict[str, object] = {"certificate_file": SimpleUploadedFile("c.p12", content)}
    if "password" in form.names:
        data["password"] = "secret"
    browser.press(label, **data)
    for _ in range(3):
        again = [f for f in browser.forms if f.method == "post" and "logout" not in f.action]
        if not again:
            break
        form = again[-1]
        if "despite_warnings" not in form.choices:
            break
        more: dict[str, object] = {}
        for name, choices in form.choices.items():
            if name not in form.values:
                more[name] = choices if "role" in name else choices[0]
        for name in form.names:
            if "reason" in name:
                more[name] = reason
        more |= {**data, "certificate_file": SimpleUploadedFile("c.p12", content)}
        before = browser.text
        browser.press(form.buttons[-1][2], **more)
        if browser.text == before:
            break
    return browser.text


@pytest.mark.extended
def test_a_partners_expired_certificate_that_is_in_use_is_recorded_too(by_hand: Office) -> None:
    northwind = by_hand.company.partners[1]
    leaf, _ = expired_pair("NORTHWIND")
    by_hand.olivia.go("partner-upload", northwind.uid)
    text = upload_despite_warnings(by_hand.olivia, cert_pem(leaf), reason="They still sign with it")
    assert PartnerCertificate.objects.filter(partner=northwind).exists(), text
    assert "expired" in by_hand.olivia.go("partner-detail", northwind.uid)


def test_nothing_is_rotated_to_an_expired_certificate(by_hand: Office) -> None:
    leaf, key = expired_pair("ACME-PROD")
    by_hand.olivia.open(f"{reverse('rotation-create')}?identity={by_hand.company.identity.uid}")
    text = by_hand.olivia.press(
        "Set up the draft",
        **{
            "successor": "upload",
            "upload-certificate_file": SimpleUploadedFile("c.p12", p12((leaf, key))),
            "upload-password": "secret",
            "window_date": "2026-12-03",
            "window_from": "22:00",
            "window_until": "23:00",
            "window_zone": "America/Chicago",
        },
    )
    assert "expired" in text
    assert not Rotation.objects.exists()


# 7. Valid only from a later day.


def test_a_lone_certificate_that_is_valid_later_is_offered_for_that_day(by_hand: Office) -> None:
    lone = Identity.objects.create(name="Retail", as2_id="RETAIL", as2_system=by_hand.company.system)
    leaf, key = make_pair("RETAIL", not_before=NOW + 5 * DAY, not_after=NOW + 700 * DAY)
    by_hand.olivia.go("identity-upload", lone.uid)
    form = next(f for f in by_hand.olivia.forms if "certificate_text" in f.names)
    by_hand.olivia.press(
        form.buttons[-1][2], certificate_file=SimpleUploadedFile("c.p12", p12((leaf, key))), password="secret"
    )
    assert "2026-11-28" in by_hand.olivia.text
    assert "puts it into service once it is valid" in by_hand.olivia.text


# 8. Only what a person did counts as opened.


@pytest.mark.extended
def test_a_mail_scanner_neither_opens_nor_downloads(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    link = last_link("fabrikam.example")
    scanner = Browser()
    scanner.open(link)
    for form in ("pem", "der", "p7b", "zip"):
        scanner.client.get(f"{link}files/{form}/")
    row = by_hand.show(rotation).split("Comes to Told Opened")[1].split("Northwind")[0]
    assert "link fetched" in row
    assert "opened" not in row.replace("link fetched", "")
    participant = by_hand.olivia.go("participant-detail", of(rotation, "Fabrikam").uid)
    assert "Opened its page not yet; link fetched" in participant
    assert "Downloaded it not from its page; link fetched" in participant
    fay = Browser()
    fay.open(link)
    fay.client.post(f"{link}opened/")
    row = by_hand.show(rotation).split("Comes to Told Opened")[1].split("Northwind")[0]
    assert row.count("link fetched") == 1  # that of the file


# 9. A step of ours that is still open at the window.


@pytest.fixture
def unpaused(one_slot: Office) -> tuple[Office, Rotation]:
    """All partners are ready, and nobody has paused our queue."""
    rotation = one_slot.start()
    one_slot.announce(rotation)
    for participant in rotation.participants.all():
        one_slot.prove(participant, agreed="on")
    return one_slot, rotation


PAUSE = "Pause our outbound queue"


def test_the_mails_before_the_window_name_what_is_open_on_our_side(unpaused: tuple[Office, Rotation]) -> None:
    office, _ = unpaused
    for before in (DAY, HOUR):
        office.world.at(STARTS - before)
        told = last_mail("alice", "window_soon")
        assert told.index(PAUSE) < told.index("Sign and decrypt with")
        assert "Everybody who takes part is ready" not in told
        assert "starts at that moment" not in told


@pytest.mark.extended
@pytest.mark.parametrize("moment", [STARTS - HOUR, STARTS + 10 * MINUTE], ids=["before", "inside"])
def test_the_page_does_not_say_that_everybody_is_ready_while_our_step_is_open(
    unpaused: tuple[Office, Rotation], moment: datetime
) -> None:
    office, rotation = unpaused
    office.world.at(moment)
    head = office.show(rotation).split("Old and new")[0]
    assert PAUSE in head
    assert "Everybody is ready" not in head


def test_whoever_would_change_alone_is_told_to_wait(unpaused: tuple[Office, Rotation]) -> None:
    office, _ = unpaused
    link = last_link("fabrikam.example")
    for moment in (STARTS - DAY, STARTS - 20 * MINUTE, STARTS, STARTS + 10 * MINUTE):
        office.world.at(moment)
    for address in ("fay", "nora"):
        assert "keep the old certificate until you hear from us" in last_mail(address, "partner_not_now")
    fay = Browser()
    page = fay.open(link)
    assert "wait" in page.lower()
    assert "We use the new certificate now" not in page
    assert "Please change now" not in page


def test_an_alarm_follows_minutes_after_a_start_that_did_not_happen(unpaused: tuple[Office, Rotation]) -> None:
    office, _ = unpaused
    for moment in (STARTS - MINUTE, STARTS + MINUTE, STARTS + 10 * MINUTE):
        office.world.at(moment)
    told = last_mail("alice", "not_started")
    assert "has not started" in told
    assert PAUSE in told


# 10. What is owed by us is never laid at the partner's door.


def test_a_partner_that_has_moved_is_not_accused_when_only_our_test_is_missing(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    for participant in rotation.participants.all():
        by_hand.prove(participant)
    by_hand.world.at(STARTS + MINUTE)
    by_hand.do_step(rotation, "Sign")
    for partner in by_hand.company.partners:
        by_hand.note_message(partner, "encrypted", by_hand.company.new)
    start_of_grace = len(mails_to("fay"))
    by_hand.world.pass_time(ENDS + 16 * DAY, 4 * DAY)
    later = [words(m) for m in mails_to("fay")[start_of_grace:]]
    for told in later:
        assert "nothing has shown us yet" not in told
        assert "please switch now" not in told.lower()
    shown = by_hand.show(rotation)
    for participant in rotation.participants.all():
        detail = by_hand.olivia.go("participant-detail", participant.uid)
        assert "nothing has shown us" not in detail
    assert "nothing has shown us" not in shown


# 11. An extension is bounded.


@pytest.mark.extended
def test_a_window_that_extends_itself_ends_before_a_person(by_hand: Office) -> None:
    rotation = by_hand.draft(at_end="extend")
    by_hand.olivia.go("rotation-update", rotation.uid)
    assert "at most 3 times" in by_hand.olivia.page.content.decode()
    by_hand.approve(rotation)
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    for participant in rotation.participants.all():
        by_hand.prove(participant)
    before = {address: len(mails_to(address)) for address in ("alice", "fay")}
    by_hand.world.at(STARTS)
    by_hand.world.pass_time(STARTS + 6 * HOUR, HOUR)
    by_hand.world.pass_time(STARTS + 2 * DAY, DAY)
    rotation.refresh_from_db()
    assert rotation.window_end is not None
    assert rotation.window_end <= STARTS + 4 * HOUR
    for address in ("alice", "fay"):
        told = mails_to(address)[before[address] :]
        assert len(told) <= 12, [(m.created_at, m.subject) for m in told]
    assert "needs_attention" in {m.kind for m in mails_to("alice")}
    assert "ACME" in by_hand.olivia.go("home").split("Needs you")[1].split("Next windows")[0]


# 12. Decisions and wordings.


@pytest.mark.extended
def test_a_waived_partner_is_told_to_the_owner(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    by_hand.olivia.go("participant-waive", of(rotation, "Northwind").uid)
    form = next(f for f in by_hand.olivia.forms if "reason" in f.names)
    by_hand.olivia.press(form.buttons[0][2], reason="Nobody answers there")
    by_hand.world.tick()
    told = [words(m) for m in mails_to("alice") if "Nobody answers there" in m.text]
    assert told
    assert "Northwind" in told[0]
    assert "olivia" in told[0]


@pytest.mark.extended
@writes_to_system
def test_switching_now_is_told_to_the_owner(connected: Office) -> None:
    rotation = start_and_announce(connected, at_end="extend")
    connected.world.at(STARTS + MINUTE)
    connected.olivia.go("rotation-switch-now", rotation.uid)
    form = next(f for f in connected.olivia.forms if "reason" in f.names)
    connected.olivia.press(form.buttons[0][2], reason="Their hotline said so")
    connected.world.tick()
    told = " ".join(words(m) for m in mails_to("alice"))
    assert "Their hotline said so" in told


def partner_rotation(office: Office) -> tuple[Rotation, PartnerCertificate, PartnerCertificate]:
    """Draft a rotation of Northwind's own certificate, from an old one to one that we hold already."""
    northwind = office.company.partners[1]
    old = partner_certificate(northwind, by=office.company.by, now=NOW, ends=NOW + 20 * DAY)
    new = partner_certificate(northwind, by=office.company.by, now=NOW, ends=NOW + 700 * DAY)
    office.olivia.open(f"{reverse('rotation-create')}?partner={northwind.uid}")
    given = {
        "successor": "inventory",
        "certificate": str(new.uid),
        "window_date": "2026-12-03",
        "window_from": "22:00",
        "window_until": "23:00",
        "window_zone": "America/Chicago",
    }
    office.olivia.press("Set up the draft", **given)
    return Rotation.objects.latest("pk"), old, new


@pytest.mark.extended
def test_a_change_that_is_called_off_does_not_ask_for_a_certificate_that_we_hold(by_hand: Office) -> None:
    rotation, _, _ = partner_rotation(by_hand)
    by_hand.approve(rotation)
    by_hand.olivia.go("rotation-cancel", rotation.uid)
    form = next(f for f in by_hand.olivia.forms if "reason" in f.names)
    by_hand.olivia.press(form.buttons[0][2], reason="Another date")
    before = len(mails_to("nora"))
    by_hand.world.pass_time(NOW + 10 * DAY, 5 * DAY)
    asked = [words(m) for m in mails_to("nora")[before:] if m.kind == "partner_ask"]
    asked += [t for m in mails_to("nora")[before:] if "send us" in (t := words(m)).lower()]
    assert not asked


def cancel(browser: Browser, rotation: Rotation, reason: str) -> None:
    browser.go("rotation-cancel", rotation.uid)
    form = next(f for f in browser.forms if "reason" in f.names)
    browser.press(form.buttons[0][2], reason=reason)


def test_the_owner_hears_who_cancelled_and_what_is_in_use_now(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand)
    cancel(by_hand.olivia, rotation, "The auditors asked for another key")
    by_hand.world.tick()
    told = last_mail("alice", "cancelled")
    assert told.startswith("ACME: olivia cancelled the certificate change")
    assert "The auditors asked for another key" in told
    assert "The old certificate stays in use" in told
    old, new = by_hand.company.old.short_name, by_hand.company.new.short_name
    assert f"In use to sign: {old}" in told
    assert re.search(f"In use to decrypt: {old}, until [^,]+, {new}, until", told), told


@pytest.mark.extended
def test_who_cancels_is_not_told_of_it(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand)
    assert by_hand.olivia.user is not None
    by_hand.company.identity.owners.add(by_hand.olivia.user)
    cancel(by_hand.olivia, rotation, "Another date")
    by_hand.world.tick()
    assert [m.to_address for m in mails_to("") if m.kind == "cancelled"] == ["alice@example.com"]


@pytest.mark.extended
def test_a_draft_that_is_cancelled_is_mailed_to_nobody(by_hand: Office) -> None:
    cancel(by_hand.olivia, by_hand.draft(), "Another date")
    by_hand.world.tick()
    assert not [m for m in mails_to("alice") if m.kind == "cancelled"]


@writes_to_system
def test_mails_about_a_window_without_a_moment_do_not_name_a_start_as_one(connected: Office) -> None:
    start_and_announce(connected, at_end="switch", window_until="05:00")
    for moment in (STARTS - DAY, STARTS - HOUR, STARTS + MINUTE):
        connected.world.at(moment)
    told = [words(m) for address in ("alice", "fay", "nora") for m in mails_to(address)]
    assert [t for t in told if "window" in t.lower()]
    for text in told:
        assert "starts now" not in text
        assert "starts at that moment" not in text
        assert not re.search(r"change (of \S+ certificate )?starts in", text), text


@pytest.mark.extended
def test_the_page_does_not_say_that_a_change_by_hand_is_made_by_itself(by_hand: Office) -> None:
    rotation = by_hand.start(at_end="switch", window_until="05:00")
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    for participant in rotation.participants.all():
        by_hand.prove(participant)
    head = by_hand.show(rotation).split("Old and new")[0]
    assert "make the change by hand at the first message" in head
    assert "At the end it is made all the same" not in head


def start_by_hand(office: Office, **fields: object) -> Rotation:
    """Approve a rotation, load the new key by hand, announce it, and record that all partners have it."""
    rotation = office.start(**fields)
    office.do_step(rotation, "Load")
    office.announce(rotation)
    for participant in rotation.participants.all():
        office.prove(participant)
    return rotation


@pytest.mark.extended
@pytest.mark.parametrize("at_end", ["switch", "go_back", "extend"])
def test_the_moment_of_a_change_by_hand_says_that_a_person_makes_it(by_hand: Office, at_end: str) -> None:
    rotation = start_by_hand(by_hand, at_end=at_end, window_until="05:00")
    by_hand.world.at(STARTS - HOUR)
    told = last_mail("alice", "window_soon")
    assert "a person makes it by hand" in told
    assert "made all the same" not in told
    assert "a person makes it by hand" in by_hand.show(rotation)
    assert "made all the same" not in by_hand.olivia.text


@pytest.mark.extended
def test_the_first_evidence_tells_our_people_to_make_a_change_by_hand(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand, at_end="switch", window_until="05:00")
    by_hand.world.at(STARTS + HOUR)
    for name in ("Fabrikam", "Northwind"):
        by_hand.note_message(of(rotation, name).partner, "encrypted", by_hand.company.new)
        by_hand.world.tick()
    told = [words(m) for m in mails_to("alice") if m.kind == "own_step_open"]
    assert len(told) == 1  # the first one says it
    assert "Fabrikam has changed" in told[0]
    assert "Make the change by hand now" in told[0]


@pytest.mark.extended
def test_evidence_before_the_window_tells_our_people_from_when_on_they_make_the_change(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand, at_end="switch", window_until="05:00")
    by_hand.world.at(STARTS - DAY)
    by_hand.note_message(of(rotation, "Fabrikam").partner, "encrypted", by_hand.company.new)
    by_hand.world.tick()
    told = last_mail("alice", "own_step_open")
    assert "Make the change by hand once the window opens, on Thu 3 Dec 2026, 22:00 CST" in told
    assert "by hand now" not in told


@pytest.mark.extended
@pytest.mark.parametrize("at_end", ["go_back", "extend"])
def test_a_window_by_hand_with_evidence_ends_before_a_person(by_hand: Office, at_end: str) -> None:
    rotation = start_by_hand(by_hand, at_end=at_end)
    by_hand.world.at(STARTS + MINUTE)
    by_hand.note_message(of(rotation, "Fabrikam").partner, "encrypted", by_hand.company.new)
    by_hand.world.at(ENDS - 30 * SECOND)
    by_hand.world.at(ENDS + MINUTE)
    rotation.refresh_from_db()
    assert (rotation.state, rotation.window_end) == ("scheduled", ENDS)
    assert "The window ended and the change was not made" in last_mail("alice", "needs_attention")
    assert not [m for m in mails_to("alice") if "nothing has shown" in words(m)]


# 13. Each partner when it is ready.


@pytest.fixture
def campaign(world: World) -> tuple[Office, Rotation]:
    """Our system signs per partner; five partners may switch until 11 Dec."""
    office = open_office(world, connector=None)
    system = AS2System.objects.create(
        name="Hub", connector="manual", config={}, **keeps_both("yes"), **SIGNS_PER_PARTNER
    )
    Identity.objects.update(as2_system=system)
    office.company.identity.refresh_from_db()
    for name in ("Contoso", "Litware", "Proseware"):
        add_partner(office.company, name, **keeps_both())
    rotation = office.start(
        at_end="phased", window_date="", window_from="", window_until="18:00", window_last_date="2026-12-10"
    )
    office.do_step(rotation, "Load")
    office.announce(rotation)
    return office, rotation


@pytest.mark.extended
def test_in_a_campaign_a_partner_that_answers_may_switch_at_once(campaign: tuple[Office, Rotation]) -> None:
    office, rotation = campaign
    fay = Browser()
    fay.open(last_link("fabrikam.example"))
    fay.press("Check it and confirm", fingerprint=office.company.new.sha256)
    office.world.tick()
    assert "We use the new certificate now" in fay.open(fay.url)
    shown = office.show(rotation)
    assert re.search(r"Sign to Fabrikam with", shown), shown


@pytest.mark.extended
def test_in_a_campaign_silent_partners_are_reminded_and_nobody_is_escalated_early(
    campaign: tuple[Office, Rotation],
) -> None:
    office, rotation = campaign
    office.world.at(NOW + 10 * MINUTE)
    assert not [m for m in mails_to("alice") if m.kind == "silent"]
    assert "call them" not in office.show(rotation).lower()
    office.world.pass_time(NOW + 16 * DAY, 2 * DAY)
    reminded = [m for m in mails_to("nora") if m.kind != "partner_announcement"]
    assert len(reminded) >= 2, [(m.created_at, m.subject) for m in mails_to("nora")]
    silent = [m for m in mails_to("alice") if m.kind == "silent"]
    assert not silent or min(m.created_at for m in silent) >= max(
        m.created_at for m in reminded if m.kind == "partner_reminder"
    )


# 14. Days in the past.


@pytest.mark.extended
def test_a_reminder_after_an_extension_that_is_over_asks_for_no_day_in_the_past(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    northwind = of(rotation, "Northwind")
    by_hand.show(rotation)
    by_hand.olivia.press("Give more time", partner=[str(northwind.uid)])
    by_hand.olivia.press("Give 1 partner until then", day="2026-11-25")
    by_hand.world.pass_time(STARTS - HOUR, 2 * DAY)
    found = 0
    for message in mails_to("nora"):
        text = words(message)
        for day, hours, minutes in re.findall(r"(?:by|before) \w{3} (\d+ \w{3} \d{4}), (\d\d):(\d\d) CST", text):
            found += 1
            due = datetime.strptime(f"{day} {hours}:{minutes} -0600", "%d %b %Y %H:%M %z")
            assert due > message.created_at, (message.created_at, text)
    assert found


# 15. Clock changes.


def test_an_end_on_the_other_side_of_a_clock_change_is_asked_about(world: World) -> None:
    office = open_office(world, connector="manual", old_days=500)
    office.olivia.open(f"{reverse('rotation-create')}?identity={office.company.identity.uid}")
    given = {
        "successor": "inventory",
        "certificate": str(office.company.new.uid),
        "window_date": "2027-11-07",
        "window_from": "01:45",
        "window_until": "01:30",
        "window_zone": "America/Chicago",
    }
    asked = office.olivia.press("Set up the draft", **given)
    assert "01:30 CST" in asked
    form, _ = office.olivia.form("Set up the draft")
    assert {"from_which", "until_which"} <= form.names
    assert not Rotation.objects.exists()
    stored = set()
    for first, second in (("0", "0"), ("0", "1"), ("1", "0")):
        office.olivia.open(f"{reverse('rotation-create')}?identity={office.company.identity.uid}")
        office.olivia.press("Set up the draft", **given)
        if "from_which" not in office.olivia.form("Set up the draft")[0].names:
            break
        office.olivia.press("Set up the draft", from_which=first, until_which=second)
        forms = [f for f in office.olivia.forms if "window_known" in f.names]
        if forms:
            office.olivia.press("Set up the draft", window_known=forms[0].choices["window_known"][0])
        rotation = Rotation.objects.first()
        if rotation is None:
            continue
        stored.add((rotation.window_start, rotation.window_end, rotation.window_local))
        assert rotation.window_end is not None
        assert rotation.window_start is not None
        Rotation.objects.all().delete()
    assert len({local for _, _, local in stored}) == len(stored) >= 2, stored


# 16. Home names what blocks a rotation.


def test_home_names_what_blocks_a_rotation_and_the_next_action(by_hand: Office) -> None:
    for name in ("Contoso", "Litware", "Proseware"):
        add_partner(by_hand.company, name, **keeps_both())
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    fay, nora = Browser(), Browser()
    fay.open(last_link("fabrikam.example"))
    fay.press("Say that it can’t be done", reason="We are in a freeze")
    nora.open(last_link("northwind.example"))
    nora.press(
        "Propose this time", window_date="2026-12-05", window_from="20:00", window_until="21:00", note="After orders"
    )
    by_hand.world.at(NOW + HOUR)
    home = by_hand.olivia.go("home")
    needs = home.split("Needs you")[1].split("Next windows")[0]
    assert "ACME" in needs
    line = needs.split("ACME: sign + decrypt")[1].split("has no certificate yet")[0]
    assert "Fabrikam" in line
    assert "Northwind" in line
    assert needs.count("ACME: sign + decrypt") == 1, needs
    page = by_hand.show(rotation)
    assert "We are in a freeze" in page


@pytest.mark.extended
def test_after_a_cancellation_the_old_certificate_expires_in_both_roles(by_hand: Office) -> None:
    rotation = start_by_hand(by_hand)
    cancel(by_hand.olivia, rotation, "Another date")
    by_hand.world.at(NOW + 7 * DAY)  # 13 days before it expires
    home = by_hand.olivia.open(reverse("home"))
    assert "ACME sign + decrypt expires in 13 days, no rotation" in home
    assert "sign + decrypt" in last_mail("alice", "reminder")


@pytest.mark.extended
def test_after_a_missed_window_the_old_certificate_expires_in_both_roles(by_hand: Office) -> None:
    start_by_hand(by_hand)
    by_hand.world.at(ENDS + 10 * MINUTE)
    by_hand.world.at(ENDS + 3 * DAY)
    assert "sign + decrypt" in last_mail("alice", "reminder")


# 17. see 3. 18. The deadline lies before the change.


def test_the_answer_is_due_working_days_before_the_change_under_a_name_of_its_own(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    announced = last_mail("fay", "partner_announcement")
    assert "Answer by: Tue 1 Dec 2026, 22:00 CST" in announced
    assert (
        "Add it by: Thu 3 Dec 2026, 22:00 CST" in announced
    )  # the last moment for the change; the answer comes before
    assert not re.search(r"(answer|agree|tell us)[^.:]{0,60} by:? Thu 3 Dec 2026, 22:00", announced, re.I), announced
    fay = Browser()
    page = fay.open(last_link("fabrikam.example"))
    assert "Please answer by Tue 1 Dec 2026, 22:00 CST" in page
    calendar = fay.client.get(f"{fay.url}change.ics").content.decode()
    assert "20261204T040000Z" in calendar
    assert "1 Dec 2026" in calendar.replace("\r\n ", "")


@pytest.mark.extended
@pytest.mark.parametrize("words_of_step", ["Agree to the time, or propose another one"])
def test_a_partner_that_changes_with_us_agrees_before_the_minute_of_the_change(
    one_slot: Office, words_of_step: str
) -> None:
    rotation = one_slot.start()
    one_slot.announce(rotation)
    announced = last_mail("fay", "partner_announcement")
    assert f"{words_of_step} by Tue 1 Dec 2026, 22:00 CST" in announced
    fay = Browser()
    assert f"{words_of_step}, by Tue 1 Dec 2026, 22:00 CST" in fay.open(last_link("fabrikam.example"))


@pytest.mark.extended
def test_a_partner_loads_its_key_by_one_moment_everywhere(by_hand: Office) -> None:
    rotation, _, new = partner_rotation(by_hand)
    by_hand.approve(rotation)
    northwind = of(rotation, "Northwind")
    by_hand.record_answer(northwind, fingerprint=new.sha256, channel="on the telephone")
    by_hand.do_step(rotation, "Accept")
    by_hand.announce(rotation)
    day = "Tue 1 Dec 2026, 22:00 CST"
    page = by_hand.see_as(northwind)
    assert f"Please answer by {day}" in page
    assert f"Load its key by {day}" in page
    assert re.search(rf"Load the private key of your new certificate [^.]*by {day}", page), page
    told = last_mail("nora", "partner_announcement")
    assert f"Load its key by: {day}" in told
    assert f"load its key and tell us by {day}" in told
    assert not re.search(r"(load|tell us)[^.:]{0,60} by:? Thu 3 Dec 2026, 22:00", f"{page} {told}", re.I)


@pytest.mark.extended
def test_a_partner_that_has_answered_is_not_asked_to_answer_by_another_day(one_slot: Office) -> None:
    rotation = one_slot.start()
    one_slot.announce(rotation)
    fabrikam = of(rotation, "Fabrikam")
    assert "Please answer by Tue 1 Dec 2026, 22:00 CST" in one_slot.see_as(fabrikam)
    one_slot.prove(fabrikam, agreed="on")
    assert "Please answer by" not in one_slot.see_as(fabrikam)


# Everywhere: one page says one thing.


@pytest.mark.extended
def test_one_page_says_once_how_far_away_the_window_is(by_hand: Office) -> None:
    rotation = by_hand.start()
    by_hand.do_step(rotation, "Load")
    by_hand.announce(rotation)
    shown = by_hand.show(rotation)
    assert len(set(re.findall(r"window opens in (\d+) days", shown))) == 1, shown
