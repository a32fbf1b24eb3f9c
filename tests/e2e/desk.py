"""Somebody at a browser: each method is what one does there, by the words on the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, expect, sync_playwright

from tests import programs
from tests.e2e.watch import Watch
from tests.stack import Stack

#: Patience with a machine that has other things to do.
PATIENCE = 60_000
ARGS = ("--no-sandbox", "--disable-gpu", "--disable-quic")


@contextmanager
def own_browser() -> Iterator[Browser]:
    """Start a browser that belongs to the thread in which this is called."""
    environment: dict[str, str | float | bool] = {**programs.real_time()}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs.chromium(), args=ARGS, env=environment)
        yield browser
        browser.close()


def first_password(stack: Stack) -> str:
    """Make the first administrator as `make run` does, and return the one-time password that it prints."""
    printed = stack.manage("make_ready", "--administrator")
    found = re.search(r"password\s+(\S+)", printed)
    assert found, printed
    return found[1]


class Desk:
    """A person's browser, pointed at an installation."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(
            **{"viewport": {"width": 1440, "height": 1200}, "locale": "en-GB", **options}
        )
        self.context.set_default_timeout(PATIENCE)
        self.watch = Watch(self.context, url)
        self.page = self.context.new_page()

    # Getting about.

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def link(self, name: str, *, inside: Locator | None = None) -> Locator:
        return (inside or self.page.locator("main")).get_by_role("link", name=name, exact=True).first

    def follow(self, name: str) -> None:
        self.link(name).click()

    def press(self, name: str | re.Pattern[str]) -> None:
        self.page.get_by_role("button", name=name).click()

    def field(self, label: str) -> Locator:
        """Return the field with this label; required ones have a star behind it."""
        return self.page.get_by_label(re.compile(rf"^\s*{re.escape(label)}\s*\*?\s*$"))

    def fill(self, label: str, text: str) -> None:
        self.field(label).fill(text)

    def go_to(self, *names: str) -> None:
        """Go to a part of the application by the bar at the top, and from there on by links."""
        self.link(names[0], inside=self.page.get_by_role("navigation", name="Main")).click()
        for name in names[1:]:
            self.follow(name)

    def from_own_menu(self, name: str) -> None:
        """Choose from the person's menu in the bar."""
        self.page.locator("header summary:visible", has_text="your menu").click()
        self.link(name, inside=self.page.locator("header details[open]")).click()

    def from_menu(self, opener: str, name: str) -> None:
        """Choose from a menu of the page."""
        self.page.locator("main summary").get_by_text(opener, exact=True).click()
        self.page.locator("main details[open]").get_by_role("link", name=name).click()

    def says(self, text: str | re.Pattern[str]) -> None:
        """Wait until the page says something."""
        expect(self.page.locator("main").get_by_text(text).first).to_be_visible(timeout=PATIENCE)

    def text_of(self, heading: str) -> str:
        """Return what the section with this heading says."""
        return self.page.get_by_role("region", name=heading, exact=True).inner_text()

    # People.

    def log_in(self, name: str, password: str) -> None:
        self.open("/")
        self.fill("User name", name)
        self.fill("Password", password)
        self.press("Log in")

    def settle_in(self, one_time: str, password: str) -> None:
        """Log in as the first administrator, and choose an own password as it is asked for."""
        self.log_in("admin", one_time)
        expect(self.page.get_by_role("heading", level=1)).to_have_text("Choose your own password")
        self.fill("Old password", one_time)
        self.fill("New password", password)
        self.page.get_by_label(re.compile("New password (confirmation|again)", re.I)).fill(password)
        self.press("Change your password")
        self.says("Your password is changed.")

    def give_address(self, address: str) -> None:
        """Enter one's own e-mail address."""
        self.from_own_menu("Your account")
        self.fill("E-mail", address)
        self.press("Save your account")
        self.says("Your account is saved.")

    # Files.

    def download(self, opener: Locator, folder: Path) -> Path:
        """Click on something that brings a file, and return where it was saved, under the name it came with."""
        with self.page.expect_download() as coming:
            opener.click()
        file = folder / coming.value.suggested_filename
        coming.value.save_as(file)
        return file
