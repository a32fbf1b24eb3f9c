"""Narrow screens, dark mode, the keyboard, and pages without JavaScript, in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from as2certs.clock import database_now
from identities.models import Identity, IdentityCertificate
from partners.models import Partner
from rotations.management import demo
from rotations.models import Rotation
from tests.e2e.desk import PATIENCE
from tests.people import log_in_browser, make_person

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]

Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, live_server: object) -> Iterator[Open]:
    """Return a page in which an administrator is logged in, made with the options of a browser's context."""
    anna = make_person("anna", "administrator", time_zone="Europe/Berlin")
    contexts: list[BrowserContext] = []

    def make(**options: object) -> Page:
        context = chromium.new_context(base_url=str(live_server), **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        log_in_browser(context, anna, str(live_server))
        page = context.new_page()
        page.goto("/")
        expect(page.locator("main h1")).to_be_visible()
        return page

    yield make
    for context in contexts:
        context.close()


def addresses() -> list[str]:
    return [
        "/",
        "/calendar/",
        "/trail/",
        "/help/",
        "/account/",
        "/settings/",
        "/search/?q=a",
        "/certificates/",
        "/identities/",
        "/identities/new/",
        "/partners/",
        "/systems/",
        "/rotations/",
        "/mail/",
        *(
            model.objects.order_by("pk")[0].get_absolute_url()
            for model in (Identity, Partner, IdentityCertificate, Rotation)
        ),
    ]


@pytest.mark.extended  # tests/e2e/test_every_page.py looks at these pages too
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone_or_complains_in_the_console(open_page: Open, scheme: str) -> None:
    demo.load(now=database_now())
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    for address in addresses():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
    assert said == []


@pytest.mark.extended
def test_dark_mode_follows_the_system_without_javascript(open_page: Open) -> None:
    dark = open_page(color_scheme="dark", java_script_enabled=False)
    light = open_page(color_scheme="light", java_script_enabled=False)
    ink = "e => getComputedStyle(e).backgroundColor"
    colours = [page.locator("body").evaluate(ink) for page in (dark, light)]
    assert colours == ["rgb(17, 24, 26)", "rgb(248, 250, 250)"]


@pytest.mark.extended
def test_without_javascript_the_menu_opens_and_logs_out(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.extended
def test_a_menu_closes_with_escape_and_gives_the_focus_back(open_page: Open) -> None:
    page = open_page(viewport={"width": 1440, "height": 900})
    summary = page.locator(".bar-end details.only-wide summary")
    summary.click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()
    expect(summary).to_be_focused()


@pytest.mark.extended
def test_a_slash_goes_to_the_search_and_the_first_tab_to_the_content(open_page: Open) -> None:
    page = open_page(viewport={"width": 1440, "height": 900})
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("north")
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_have_text("“north”")


def test_a_fingerprint_is_copied_whole(open_page: Open) -> None:
    demo.load(now=database_now())
    page = open_page(viewport={"width": 1440, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    page.goto("/certificates/")
    button = page.get_by_role("button", name="Copy the fingerprint").first
    whole = button.get_attribute("data-copy")
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == whole
    assert whole is not None
    assert len(whole) == 95


@pytest.mark.extended
def test_the_example_data_is_one_click_away(open_page: Open) -> None:
    page = open_page(viewport={"width": 1440, "height": 900})
    page.get_by_role("button", name="Load example data").click()
    expect(page.get_by_text("The example company is here.")).to_be_visible()
    expect(page.get_by_role("heading", name="The next twelve months")).to_be_visible()
