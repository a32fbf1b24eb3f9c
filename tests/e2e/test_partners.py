"""Twelve partners take part in a rotation: each in its own way, by mail and browser, while the operator looks on."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography import x509
from playwright.sync_api import Browser

from as2certs import pki
from tests.certificates import make_pair
from tests.e2e.desk import Desk
from tests.e2e.office import Office
from tests.servers import MailServer, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.extended]

PASSWORD = "a long password of Olivia’s"
NAMES = (
    "Adventure",
    "Alpine",
    "Contoso",
    "Fabrikam",
    "Humongous",
    "Lamna",
    "Litware",
    "Northwind",
    "Proseware",
    "Tailspin",
    "Woodgrove",
    "Wingtip",
)
#: Sets the company up as an operator would have: one identity, twelve partners with a contact each.
SET_UP = f"""
from datetime import timedelta
from as2certs import pki
from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from django.contrib.auth.models import Group
from identities.certificates.single_import import import_certificate
from identities.models import AS2System, Identity
from partners.models import Contact, Partner, Partnership
from tests.certificates import make_pair
now = database_now()
Installation(name="Meridian Foods", time_zone="Europe/Berlin").save()
user = User.objects.create_user("olivia", "olivia@meridian.example", {PASSWORD!r}, phone="+49 30 901820")
user.first_name, user.last_name = "Olivia", "Ortega"
user.save()
user.groups.set(Group.objects.filter(name__in=["administrator"]))
by = Actor(name="Olivia", source="command")
system = AS2System.objects.create(
    name="OpenAS2", connector="directory", config={{"folder": "openas2"}}, **keeps_both("yes")
)
identity = Identity.objects.create(name="Meridian", as2_id="MERIDIAN", as2_system=system)
identity.owners.add(user)
def certify(station, name, days):
    leaf, key = make_pair(name, not_before=now - timedelta(days=1), not_after=now + timedelta(days=days))
    ours = station is identity
    material = pki.Material(leaf=leaf, chain=(), key=key if ours else None, container="pem")
    return import_certificate(station, material, roles=station.ROLES, by=by, now=now)
certify(identity, "MERIDIAN", 60)
certify(identity, "MERIDIAN", 700)
for name in {NAMES!r}:
    partner = Partner.objects.create(name=name, as2_id=name.upper(), **keeps_both("yes"), time_zone="America/Chicago")
    Partnership.objects.create(identity=identity, partner=partner)
    address = f"pat@{{name.lower()}}.example"
    Contact.objects.create(partner=partner, name=f"Pat of {{name}}", email=address, phone="+1 312 555 0100")
certify(Partner.objects.get(name="Alpine"), "ALPINE", 90)
"""


class Partner(Desk):
    """Somebody at a partner, with nothing but the link of a mail."""

    def __init__(self, browser: Browser, url: str, link: str, **options: Any) -> None:
        super().__init__(browser, url, **options)
        self.page.goto(link)

    def unfold(self, title: str) -> None:
        """Open a question or another thing that can be done, unless it is open."""
        summary = self.page.locator("main details > summary", has_text=title).last
        if summary.locator("..").get_attribute("open") is None:
            summary.click()


class Post:
    """The mails that a server took."""

    def __init__(self, server: MailServer) -> None:
        self.server = server

    def to(self, address: str) -> list[EmailMessage]:
        return [m for m in list(self.server.messages) if address in str(m["To"])]

    def wait_for(self, address: str, subject: str) -> EmailMessage:
        def found() -> list[EmailMessage]:
            return [m for m in self.to(address) if re.search(subject, str(m["Subject"]))]

        wait_until(found, what=f"a mail to {address}: {subject}", seconds=60)
        return found()[-1]

    def link(self, name: str, subject: str = "new AS2 certificate|new certificate") -> str:
        text = text_of(self.wait_for(address_of(name), subject))
        found = re.search(r"http\S+/p/\S+/", text)
        assert found, text
        return found[0]


def address_of(name: str) -> str:
    return f"pat@{name.lower()}.example"


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@pytest.fixture
def site(make_stack: Callable[..., Stack], smtp_server: MailServer) -> Stack:
    smtp_server.refused.add(address_of("Wingtip"))
    stack = make_stack(email_url=smtp_server.url)
    (stack.folder / "as2").mkdir()
    stack.manage("shell", "-c", SET_UP)
    stack.start()
    return stack


def shell(site: Stack, code: str) -> str:
    return site.manage("shell", "-c", code).strip().splitlines()[-1] if code else ""


def test_twelve_partners_take_part(site: Stack, smtp_server: MailServer, chromium: Browser, tmp_path: Path) -> None:
    post = Post(smtp_server)
    olivia = Office(chromium, site.url)
    olivia.log_in("olivia", PASSWORD)
    rotation = set_up(olivia, site)
    old, new = (pki.load_der(bytes.fromhex(line)) for line in shell(site, CERTIFICATES).split())

    announce(olivia, rotation, post)
    northwind_does_all(Partner(chromium, site.url, post.link("Northwind"), viewport=PHONE), new, tmp_path)
    fabrikam_proposes_another_time(Partner(chromium, site.url, post.link("Fabrikam")))
    contoso_looks_at_the_old_one(Partner(chromium, site.url, post.link("Contoso")), old)
    alpine_hands_in_its_own(Partner(chromium, site.url, post.link("Alpine")), tmp_path)
    lamna_says_no(Partner(chromium, site.url, post.link("Lamna")))
    litware_gives_its_word(Partner(chromium, site.url, post.link("Litware")))
    Partner(chromium, site.url, post.link("Humongous"))  # opens the page, and does nothing
    tailspin_is_silent(site, post)

    olivia.page.goto(rotation)
    assert standings(olivia) == {
        "Adventure": "silent",
        "Alpine": "silent",
        "Contoso": "silent",
        "Fabrikam": "other time proposed",
        "Humongous": "silent",
        "Lamna": "said no",
        "Litware": "ready (unverified)",
        "Northwind": "ready",
        "Proseware": "silent",
        "Tailspin": "silent",
        "Wingtip": "unreachable",
        "Woodgrove": "silent",
    }
    the_trail_says_who_when_and_from_where(olivia)
    assert olivia.watch.seen == []


PHONE = {"width": 390, "height": 844}
CERTIFICATES = """
from rotations.models import Rotation
r = Rotation.objects.get(identity__isnull=False)
print(bytes(r.old.der).hex(), bytes(r.new.der).hex())
"""


def set_up(olivia: Office, site: Stack) -> str:
    """Set up the rotation with a window in three weeks, approve it, and wait until the key is staged."""
    olivia.go_to("Identities", "Meridian", "Start rotation")
    olivia.page.get_by_label("It is in the inventory already").check()
    starts = (datetime.now(UTC) + timedelta(days=21)).replace(hour=4, minute=0, second=0, microsecond=0)
    olivia.fill_window(starts.astimezone(ZoneInfo("America/Chicago")))
    olivia.press("Set up the draft")
    olivia.says("The rotation is set up as a draft.")
    olivia.follow("Approve …")
    olivia.press(re.compile("^Approve"))
    olivia.says("The rotation is approved")
    rotation = olivia.page.url
    olivia.page.locator("ol.runbook > li.step-done", has_text="Load").first.wait_for(timeout=90_000)
    return rotation


def announce(olivia: Office, rotation: str, post: Post) -> None:
    """Look at the mails, send them all, and find each at the mail server."""
    olivia.page.goto(rotation)
    olivia.page.locator(".page-actions").get_by_role("link", name=re.compile("^Announce")).click()
    olivia.says("Nothing has left yet.")
    olivia.press("Send 12 mails to 12 partners")
    olivia.says(re.compile("12 partners"))
    for name in NAMES:
        if name == "Wingtip":
            continue  # its mail server refuses the address
        mail = post.wait_for(address_of(name), "Meridian Foods")
        files = {part.get_filename() for part in mail.iter_attachments()}
        assert {Path(str(f)).suffix for f in files} >= {".pem", ".cer", ".zip", ".ics"}
        assert mail["Reply-To"] == "olivia@meridian.example"
        assert "PRIVATE KEY" not in mail.as_string()


def northwind_does_all(pat: Partner, new: x509.Certificate, folder: Path) -> None:
    """On a phone: download the certificate, paste what the own system shows, accept the time."""
    file = pat.download(pat.page.get_by_role("button", name=re.compile("DER")).first, folder)
    assert pki.read_public(file.read_bytes(), partner=False).leaf == new
    digits = pki.format_fingerprint(pki.describe(new).sha256)
    pat.page.get_by_role("textbox", name=re.compile("ingerprint")).first.fill(f"sha256 Fingerprint={digits}")
    pat.press("Check it and confirm")
    pat.says(re.compile("Thank you|matches"))
    pat.unfold("Say whether the time suits you")
    pat.press("This time is all right")
    pat.says("agreed")
    assert pat.watch.seen == []


def fabrikam_proposes_another_time(pat: Partner) -> None:
    pat.unfold("Say whether the time suits you")
    pat.unfold("Propose another time")
    later = datetime.now(UTC) + timedelta(days=25)
    pat.fill("Day", f"{later:%Y-%m-%d}")
    pat.fill("From", "20:00")
    pat.fill("Until", "21:00")
    pat.press("Propose this time")
    pat.says(re.compile("propos", re.I))
    assert pat.watch.seen == []


def contoso_looks_at_the_old_one(pat: Partner, old: x509.Certificate) -> None:
    pat.page.get_by_role("textbox", name=re.compile("ingerprint")).first.fill(pki.describe(old).sha256)
    pat.press("Check it and confirm")
    pat.says(re.compile("old certificate"))


def alpine_hands_in_its_own(pat: Partner, folder: Path) -> None:
    now = datetime.now(UTC)
    leaf, _ = make_pair("ALPINE", not_before=now - timedelta(days=1), not_after=now + timedelta(days=800))
    file = folder / "alpine.cer"
    file.write_bytes(pki.to_der(leaf))
    pat.follow("Hand in a new certificate of your own")
    pat.page.locator("input[type=file]").set_input_files(file)
    pat.press("Read and check it")
    pat.says("Is it the one you meant?")
    assert pki.format_fingerprint(pki.describe(leaf).sha256) in pat.page.locator("main").inner_text().replace("\n", "")
    pat.press("Yes: hand it in")
    pat.says(re.compile("We have your new certificate"))
    assert pat.watch.seen == []


def lamna_says_no(pat: Partner) -> None:
    pat.unfold("Say that it can’t be done")
    pat.page.get_by_role("textbox", name=re.compile("Why|reason", re.I)).first.fill("We are closed until January.")
    pat.press("Say that it can’t be done")
    pat.says("We are closed until January.")
    assert pat.watch.seen == []


def litware_gives_its_word(pat: Partner) -> None:
    pat.press("Confirm without a fingerprint")
    pat.says("as you told us")


def tailspin_is_silent(site: Stack, post: Post) -> None:
    """Let eight days pass for everybody: who has not answered is reminded; near the window, the owner hears of it."""
    shell(site, PASS_DAYS)
    site.manage("send_reminders")
    post.wait_for(address_of("Tailspin"), "Reminder")
    assert not [m for m in post.to(address_of("Northwind")) if "Reminder" in str(m["Subject"])]
    shell(site, NEAR_THE_WINDOW)
    site.manage("send_reminders")
    mail = post.wait_for("olivia@meridian.example", "silent|answer|not answered|unreachable")
    assert "Tailspin" in text_of(mail)


PASS_DAYS = """
from datetime import timedelta
from rotations.models import Letter, Participant
from as2certs.mail.models import Message
for p in Participant.objects.exclude(announced_at=None):
    Participant.objects.filter(pk=p.pk).update(announced_at=p.announced_at - timedelta(days=8))
for l in Letter.objects.exclude(participant=None):
    Letter.objects.filter(pk=l.pk).update(at=l.at - timedelta(days=8))
print("passed")
"""
NEAR_THE_WINDOW = """
from datetime import timedelta
from as2certs.clock import database_now
from rotations.models import Rotation
now = database_now()
starts = now + timedelta(hours=10)
Rotation.objects.filter(identity__isnull=False).update(window_start=starts, window_end=starts + timedelta(hours=1))
print("near")
"""


def standings(olivia: Office) -> dict[str, str]:
    """Return what the table says that each partner comes to."""
    rows = olivia.page.locator("table.partners tbody tr")
    found = {}
    for row in rows.all():
        name = row.locator("th a").first.inner_text()
        found[name] = row.locator("td[data-label='Comes to'] .status").first.inner_text().strip()
    return found


def the_trail_says_who_when_and_from_where(olivia: Office) -> None:
    olivia.go_to("Trail")
    words = olivia.page.locator("main").inner_text()
    for said in (
        "said no",
        "proposed another time",
        "We are closed until January.",
        "127.0.0.1",
    ):
        assert said in words, said
