"""The main job as a new user does it, from an empty installation to two changes applied at their moment.

Everything is real: the processes of the application, the browser, the files that openssl made, the clock. Nothing
touches the database but the pages. What came of it is written down in `Told` for the tests to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Error, Locator, expect

from tests.e2e.desk import first_password, own_browser
from tests.e2e.office import CHICAGO, Office, Runbook, next_window
from tests.e2e.openssl import Pair, fingerprint, make_p7b, make_pair
from tests.faults.oracle import Expected, Findings, judge
from tests.servers import wait_until
from tests.stack import Stack

IDENTITY, AS2_ID = "Acme production", "ACME-PROD"
NORTHWIND, FABRIKAM = "Northwind", "Fabrikam"
PASSWORD = "a password of my own"
FILE_PASSWORD = "only for this file"
FORMATS = {"PEM (.pem)": "pem", "DER (.cer)": "cer", "PKCS#7 (.p7b)": "p7b", "All of them (.zip)": "zip"}


@dataclass
class Change:
    """One rotation: what it replaced, when it was to be made, and how it was seen to be made."""

    old: str  # fingerprints, in capitals with colons
    new: str
    starts: datetime
    staged: dict[str, str] = field(default_factory=dict)  # what the directory held before the moment
    staged_at: datetime | None = None
    before: str = ""  # the state of the cut-over on the page, before the moment
    seen_at: datetime | None = None  # when the page showed the cut-over as done
    loads: int = -1  # how often the page was loaded again meanwhile
    held: dict[str, str] = field(default_factory=dict)
    history: str = ""
    trail: str = ""


@dataclass
class Told:
    """What came of the story."""

    address: str
    stations: Path
    ours: Change
    theirs: Change
    uploaded: Pair
    reminder: str = ""
    successor_size: str = ""
    applied: list[str] = field(default_factory=list)  # the mails about it, as the mail view shows them
    downloads: dict[str, Path] = field(default_factory=dict)
    private: Path = Path()
    whole_trail: str = ""
    noticed: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def held(station: Path) -> dict[str, str]:
    """Return the fingerprint behind each link of a station's directory, such as ``sign/current``."""
    links = sorted(station.glob("*/current")) + sorted(station.glob("*/previous"))
    return {f"{link.parent.name}/{link.name}": fingerprint(link / "cert.pem") for link in links}


class Story:
    """A new user's first morning. ``address`` is where their mail goes when a mail server is set up."""

    def __init__(self, stack: Stack, papers: Path, *, address: str = "") -> None:
        self.stack, self.papers, self.address = stack, papers, address
        self.one_time = first_password(stack)

    def tell(self) -> Told:
        """Live through all of it, in a browser of its own; on the way out, leave a picture of where it stopped."""
        with own_browser() as browser:
            self.office = Office(browser, self.stack.url)
            try:
                return self._tell()
            except BaseException as stopped:
                self._leave_a_picture(stopped)
                raise

    def _leave_a_picture(self, stopped: BaseException) -> None:
        """Keep what the page showed; a browser that can't even do that must not hide why the story stopped."""
        picture = self.papers / "stopped.png"
        try:
            self.office.page.screenshot(path=picture, full_page=True)
            stopped.add_note(f"What the page showed then: {picture}")
        except Error as failed:
            stopped.add_note(f"No picture of {self.office.page.url} could be taken: {failed.message}")

    def _tell(self) -> Told:
        self.settle_in()
        told = self.begin()
        told.reminder = self.read_mail(IDENTITY, "certificate expires")
        self.rotate_ours(told)
        self.rotate_theirs(told)
        self.watch(told)
        self.look_back(told)
        self.take_files(told)
        told.whole_trail = self.read_trail()
        told.noticed = self.office.watch.seen
        return told

    # Until the reminder.

    def settle_in(self) -> None:
        self.office.settle_in(self.one_time, PASSWORD)
        if self.address:
            self.office.give_address(self.address)

    def begin(self) -> Told:
        """Describe both sides, and upload the certificate in use."""
        office = self.office
        office.create_system("OpenAS2 production", folder="openas2")
        office.create_identity(IDENTITY, AS2_ID, system="OpenAS2 production")
        office.create_partner(NORTHWIND, "NORTHWIND", zone=CHICAGO)
        office.create_partner(FABRIKAM, "FABRIKAM", zone="Europe/Berlin")
        office.connect(IDENTITY, NORTHWIND, FABRIKAM)
        uploaded = make_pair(self.papers, "acme", name=AS2_ID, days=20)
        office.upload(IDENTITY, uploaded)
        never = datetime.max.replace(tzinfo=UTC)
        return Told(
            address=self.address or "admin@localhost",
            stations=self.stack.folder / "as2" / "openas2",
            ours=Change(old=uploaded.fingerprint, new="", starts=never),
            theirs=Change(old="", new="", starts=never),
            uploaded=uploaded,
        )

    def read_mail(self, holder: str, news: str) -> str:
        """Open a mail that was sent, in the built-in mail view; return its subject and what it says as plain text."""
        office = self.office
        if self.address:
            office.open("/mail/")  # not in the menu: people have their own mail programs then
        else:
            office.from_own_menu("Mail sent from here")
        mail = office.page.locator("main tbody tr", has_text=f"{holder}: {news}")
        sent = mail.filter(has=office.page.get_by_text("sent", exact=True))
        wait_until(lambda: self._is_there(sent), every=0.5, what=f"the mail about {holder}")
        sent.get_by_role("link").first.click()
        expect(office.page.frame_locator("iframe").locator("body")).to_contain_text(holder)
        heading = office.page.get_by_role("heading", level=1).inner_text()
        return f"{heading}\n{office.text_of('As plain text')}"

    def _is_there(self, mail: Locator) -> bool:
        """Say whether a list shows a mail; load it again where it does not."""
        if mail.count() == 0:
            self.office.page.reload()
        return mail.count() > 0

    # Our side's change.

    def rotate_ours(self, told: Told) -> None:
        """Make the successor, set up and approve its rotation, and record what both partners say."""
        office, ours = self.office, told.ours
        office.make_key(IDENTITY)
        told.successor_size = office.text_of("What was asked for")
        office.follow("Set up the rotation")
        ours.starts = next_window(at_least=60)
        office.set_up_and_approve(ours.starts)
        self.ours = Runbook(office.context.new_page(), office.page.url)
        self.ours.wait_for("Load ", "done")
        ours.new = self._new_fingerprint()
        office.record_answer(FABRIKAM, fingerprint=ours.new, spoke_with="Anna at Fabrikam")
        office.record_answer(NORTHWIND, spoke_with="Dana at Northwind")
        self.ours.wait_for_words("Everybody is ready")
        self._before(ours, self.ours, "Sign messages and MDNs with", told.stations / "own" / AS2_ID)

    def _new_fingerprint(self) -> str:
        """Read the successor's fingerprint off the rotation's page."""
        row = self.office.page.get_by_role("row", name="SHA-256")
        return row.get_by_role("cell").last.inner_text().strip()

    def _before(self, change: Change, runbook: Runbook, cut_over: str, station: Path) -> None:
        """Note how things stand shortly before the moment."""
        change.staged = held(station)
        change.before = runbook.step(cut_over)
        change.staged_at = datetime.now(UTC)

    # The partner's change.

    def rotate_theirs(self, told: Told) -> None:
        """Take in a partner's certificate, then its successor, and have that rotated too."""
        office, theirs = self.office, told.theirs
        first = make_p7b(self.papers, "northwind-1", name="NORTHWIND")
        second = make_p7b(self.papers, "northwind-2", name="NORTHWIND")
        theirs.old, theirs.new = first.fingerprint, second.fingerprint
        office.take_in(NORTHWIND, first.certificate)
        office.says("is taken in and used at once to verify and encrypt.")
        office.take_in(NORTHWIND, second.certificate)
        office.says("so nothing is overwritten: set up the rotation that puts the new one in its place.")
        # In a minute of its own: changes of one moment are told in one mail.
        theirs.starts = max(next_window(at_least=45), told.ours.starts + timedelta(minutes=1))
        office.set_up_and_approve(theirs.starts)
        self.theirs = Runbook(office.context.new_page(), office.page.url)
        assert self.theirs.step("Compare the SHA-256") == "waiting"
        assert self.theirs.step("Accept signatures of") == "waiting"
        office.record_answer(
            NORTHWIND,
            fingerprint=second.fingerprint.lower(),
            channel="on the telephone",
            spoke_with="Dana",
        )
        self.theirs.wait_for("Compare the SHA-256", "done")
        self.theirs.wait_for("Accept signatures of", "done")
        office.record_answer(NORTHWIND, spoke_with="Dana at Northwind")
        self.theirs.wait_for_words("Everybody is ready")
        self._before(theirs, self.theirs, "Encrypt to", told.stations / "partners" / "NORTHWIND")

    # At the moment, and after.

    def watch(self, told: Told) -> None:
        """Sit before the two pages until they show the change."""
        watched = (
            (told.ours, self.ours, "Sign messages and MDNs with"),
            (told.theirs, self.theirs, "Encrypt to"),
        )
        for change, runbook, cut_over in sorted(watched, key=lambda w: w[0].starts):
            left = (change.starts - datetime.now(UTC)).total_seconds()
            change.seen_at = runbook.wait_for(cut_over, "done", seconds=max(left, 0) + 30)
            runbook.wait_for_words("It is in use; the old one is still accepted")
            change.loads = runbook.loads

    def look_back(self, told: Told) -> None:
        """Read the rotations' trails, the stations' histories, the mails about the changes, and the directories."""
        office = self.office
        for change, runbook in ((told.ours, self.ours), (told.theirs, self.theirs)):
            office.page.goto(runbook.page.url)
            office.follow("The whole trail of this")
            change.trail = office.page.locator("main").inner_text()
        for change, part, name, station in (
            (told.ours, "Identities", IDENTITY, told.stations / "own" / AS2_ID),
            (told.theirs, "Partners", NORTHWIND, told.stations / "partners" / "NORTHWIND"),
        ):
            office.go_to(part, name)
            change.held = held(station)
            bands = office.page.get_by_role("region", name="What was used when").locator(".bands > svg")
            labels = [svg.get_attribute("aria-label") for svg in bands.all()]
            change.history = "\n".join(label for label in labels if label)
        told.applied = [self.read_mail(name, "certificate changed") for name in (IDENTITY, NORTHWIND)]

    def take_files(self, told: Told) -> None:
        """Download the new certificate in every form, and then with its private key."""
        office = self.office
        office.go_to("Identities", IDENTITY)
        section = office.page.get_by_role("region", name="Which certificate is used")
        section.get_by_role("row", name="sign").get_by_role("link", name=AS2_ID).click()
        for label, suffix in FORMATS.items():
            office.page.locator("main summary", has_text="Download").click()
            opener = office.page.locator("main details[open]").get_by_role("link", name=label)
            told.downloads[suffix] = office.download(opener, self.papers)
            office.page.keyboard.press("Escape")
        office.from_menu("Download", "With its private key…")
        office.fill("Your password", PASSWORD)
        office.press("It is me")
        office.fill("Why does the key leave?", "The standby machine gets it too")
        office.fill("Password of the file", FILE_PASSWORD)
        office.fill("The same again", FILE_PASSWORD)
        opener = office.page.get_by_role("button", name="Download the private key")
        told.private = office.download(opener, self.papers)

    def read_trail(self) -> str:
        self.office.go_to("Trail")
        self.office.says("took the private key out")
        return self.office.page.locator("main").inner_text()


def settle(stack: Stack, told: Told) -> Told:
    """End the installation's processes, and ask the oracle about what they left."""
    told.findings = judge(stack, Expected(scheduled=4, told=(told.address,)))
    words = ("Traceback", "ERROR", "CRITICAL", "database is locked", "deadlock")
    told.complaints = [
        f"{process.name}: {line}"
        for process in stack.processes
        for line in process.log.splitlines()
        if any(word in line for word in words)
    ]
    stack.stop()
    return told
