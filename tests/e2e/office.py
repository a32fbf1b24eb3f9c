"""What an EDI operator does in the browser, from the first AS2 system to a rotation that runs."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, TimeoutError, expect

from tests.e2e.desk import PATIENCE, Desk
from tests.e2e.openssl import Pair

CHICAGO = "America/Chicago"
#: For a link that may move while one reaches for it.
PATIENCE_OF_ONE = 2_000


def next_window(*, at_least: float) -> datetime:
    """Return the next full minute that is so many seconds away, in Chicago: windows are set to the minute."""
    soon = datetime.now(UTC) + timedelta(seconds=at_least)
    return (soon.replace(second=0, microsecond=0) + timedelta(minutes=1)).astimezone(ZoneInfo(CHICAGO))


class Office(Desk):
    """The desk of somebody with every right."""

    # Our side and theirs.

    def create_system(self, name: str, *, folder: str) -> None:
        """Set up an AS2 system that reads from a directory, and accepts the old and the new side by side."""
        self.go_to("Home", "Add an AS2 system")
        self.fill("Name", name)
        self._answer_yes("Decrypts", "Verifies messages", "Verifies MDNs")
        self.page.get_by_label("Directory and hook").check()
        self.fill("Folder", folder)
        self.press("Set up the AS2 system")
        self.says(f"{name} is set up.")

    def _answer_yes(self, *questions: str) -> None:
        for question in questions:
            self.page.get_by_role("group", name=f"{question} with two certificates").get_by_label("yes").check()

    def create_identity(self, name: str, as2_id: str, *, system: str = "") -> None:
        self.go_to("Home", "Create an identity")
        self.fill("Name", name)
        self.fill("AS2 ID", as2_id)
        if system:
            self.field("AS2 system").select_option(label=system)
        self.press("Set up the identity")
        self.says(f"{name} is set up.")

    def create_partner(self, name: str, as2_id: str, *, zone: str) -> None:
        """Set up a partner whose system keeps the old and the new certificate for a while."""
        self.open("/partners/new/")
        self.fill("Name", name)
        self.fill("AS2 ID", as2_id)
        self.field("Time zone").select_option(zone)
        self._answer_yes("Decrypts", "Verifies messages", "Verifies MDNs")
        self.press("Set up the partner")
        self.says(f"{name} is set up.")

    def connect(self, identity: str, *partners: str) -> None:
        self.go_to("Identities", identity, "Connect with partners")
        for partner in partners:
            self.page.get_by_label(partner).check()
        self.press(f"Connect with {identity}")
        self.says(f"{identity} is connected with")

    # Certificates.

    def upload(self, identity: str, pair: Pair) -> None:
        """Upload a certificate and its key, in two files, and stand by it when its warnings are shown."""
        self.go_to("Identities", identity, "Upload a certificate")
        self.field("Certificate file").set_input_files(pair.certificate)
        self.field("Private key file").set_input_files(pair.key)
        self.press("Check it and take it in")
        self.page.get_by_label("I have read this").check()
        self.press("Check it and take it in")
        self.says("is taken in and used at once to sign and decrypt.")

    def take_in(self, partner: str, file: Path) -> None:
        """Take in what a partner sent."""
        self.go_to("Partners", partner)
        if self.link("Take in a certificate").is_visible():
            self.follow("Take in a certificate")
        else:
            self.from_menu("More", "Take in a certificate")
        self.field("Certificate file").set_input_files(file)
        self.press("Check it and take it in")
        self.says("is taken in")

    def make_key(self, identity: str) -> None:
        """Have a key and certificate made, and stay until it is there."""
        self.go_to("Identities", identity)
        self.from_menu("More", "Make a new key and certificate")
        self.field("Key size").select_option("2048")
        self.press("Make the key")
        self.says(re.compile("valid until"))

    # Rotations.

    def fill_window(self, start: datetime) -> None:
        """Fill in a window of one hour that starts at this moment of its zone."""
        assert isinstance(start.tzinfo, ZoneInfo)
        self.fill("Day", f"{start:%Y-%m-%d}")
        self.fill("From", f"{start:%H:%M}")
        self.fill("Until", f"{(start.astimezone(UTC) + timedelta(hours=1)).astimezone(start.tzinfo):%H:%M}")
        self.field("On whose clock").select_option(start.tzinfo.key)

    def set_up_and_approve(self, start: datetime) -> None:
        """On the form of a rotation: choose the window, stand by its short notice, look at the plan, approve it."""
        self.fill_window(start)
        self.says("The window on every clock")  # beside the form, while one is still filling it in
        self.press("Set up the draft")
        self.page.get_by_label("I know: this window all the same").check()
        self.press("Set up the draft")
        self.says("The rotation is set up as a draft.")
        self.follow("Approve …")
        self.press(re.compile("^Approve: "))
        self.says("The rotation is approved, and its first steps begin.")

    def set_up_draft(self, identity: str, start: datetime) -> None:
        """Set up a rotation whose successor is made now, and leave it as a draft."""
        self.go_to("Identities", identity, "Start rotation")
        self.page.get_by_label("Make it now").check()
        self.field("Key size").select_option("2048")
        self.fill_window(start)
        self.press("Set up the draft")
        self.says("The rotation is set up as a draft.")

    def record_answer(self, partner: str, *, fingerprint: str = "", channel: str = "", spoke_with: str) -> None:
        """Record on the rotation's page what a partner said: a fingerprint it read out, or only its word.

        The ``channel`` is asked for where the certificate is the partner's own.
        """
        self._open_answer(partner)
        if fingerprint:
            self.page.get_by_role("textbox", name="Fingerprint").fill(fingerprint)
            if channel:
                self.page.get_by_label(channel).check()
        else:
            self.page.get_by_label(re.compile(r"^\s*They have (installed it|loaded its private key)")).check()
        self.fill("Whom you spoke to", spoke_with)
        self.press(re.compile("^Record .* answer"))
        self.says(f"{partner}’s answer is recorded.")

    def _open_answer(self, partner: str) -> None:
        """Follow a row's link, be it its button or in its menu: the page renews itself, and may move it there."""
        row = self.page.get_by_role("row", name=partner)
        link, form = row.get_by_role("link", name="Record answer"), self.page.get_by_role("heading", level=1)
        for _ in range(PATIENCE // PATIENCE_OF_ONE):
            with suppress(TimeoutError):
                if not link.is_visible():
                    row.locator(".menu > summary").click(timeout=PATIENCE_OF_ONE)
                link.click(timeout=PATIENCE_OF_ONE)
            with suppress(AssertionError):
                expect(form).to_have_text(f"Record what {partner} answers", timeout=PATIENCE_OF_ONE)
                return
        raise AssertionError(f"The answer of {partner} can't be recorded: {self.page.url}")


class Runbook:
    """A rotation's page that somebody leaves open, and never loads again."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)
        self.loads = 0
        page.on("load", self._loaded)

    def _loaded(self, _: object) -> None:
        self.loads += 1

    def step(self, title: str) -> str:
        """Return the state of the step whose title begins so: waiting, running, done, failed."""
        line = self.page.locator("ol.runbook > li", has=self.page.get_by_text(re.compile(f"^{title}")))
        return str(line.first.get_attribute("class")).split()[0].removeprefix("step-")

    def wait_for(self, title: str, state: str, *, seconds: float = 90) -> datetime:
        """Wait until a step is shown in a state, and return when (UTC) that was seen."""
        line = self.page.locator(f"ol.runbook > li.step-{state}", has=self.page.get_by_text(re.compile(f"^{title}")))
        line.first.wait_for(timeout=seconds * 1000)
        return datetime.now(UTC)

    def wait_for_words(self, text: str, *, seconds: float = 90) -> None:
        self.page.locator("main").get_by_text(text).first.wait_for(timeout=seconds * 1000)
