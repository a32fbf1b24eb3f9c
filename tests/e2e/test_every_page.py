"""Every page of the example data, as its administrator reaches it by links."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from playwright.sync_api import Browser

from tests.e2e.desk import first_password
from tests.e2e.office import Office, next_window
from tests.e2e.tour import Tour, ask_for_everything, look_at
from tests.servers import Postgres
from tests.stack import Stack
from tests.test_rights import BY_LINK

pytestmark = pytest.mark.extended  # each page is looked at several times, which takes minutes

PASSWORD = "a password of my own"

#: Pages that no link leads to: forms that send (POST), what asks for itself, what only machines ask for, and what
#: can be done with a rotation only after it was applied, after partners were told of it, or beside a rehearsal, or with
#: an AS2 system that differs from the inventory, and what belongs to a second factor or single sign-on, which the
#: example data has not.
WITHOUT_A_LINK = {
    "as2-mdn",
    "as2-receive",
    "audit-export",
    "bounce-in",
    "contact-delete",
    "contact-dismiss",
    "contact-doubt",
    "contact-take-on",
    "contact-works-again",
    "demo-load",
    "difference-adopt",
    "freeze-delete",
    "freeze-update",
    "healthz",
    "participant-capability",
    "identity-archive",
    "identity-restore",
    "identity-subscribe",
    "link-renew",
    "login",
    "logout",
    "mail-send-again",
    "mail-stop",
    "participant-nudge",
    "participant-move",
    "participant-stay",
    "participant-take-back",
    "participant-to-oneself",
    "partner-archive",
    "partner-keeps-both",
    "partner-phrase-reset",
    "partner-restore",
    "partner-subscribe",
    "partnership-archive",
    "partnership-probes-schedule",
    "partnership-restore",
    "phrase-reset",
    "readyz",
    "received-message-detail",
    "request-answer",
    "rotation-announcing",
    "rotation-announcing-cancel",
    "rotation-announcing-resume",
    "rotation-close",
    "rotation-live",
    "rotation-plan",
    "rotation-name-rehearsal",
    "rotation-preview",
    "rotation-roll-back",
    "rotation-slots-withdraw",
    "rotation-step-repeat",
    "rotation-step-retry",
    "rotation-switch-now",
    "rotation-together",
    "rotation-waive-rehearsal",
    "slot-take",
    "system-archive",
    "system-baseline",
    "system-check",
    "system-restore",
    "account_login",
    "confirm-sign-on",
    "mfa_authenticate",
    "mfa_deactivate_totp",
    "mfa_generate_recovery_codes",
    "mfa_list_webauthn",
    "mfa_reauthenticate",
    "mfa_reauthenticate_webauthn",
    "mfa_remove_webauthn",
    "mfa_view_recovery_codes",
    "sign-on",
    "sign-on-return",
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(6, id="some of each kind", marks=pytest.mark.dates),
        pytest.param(None, id="all"),
    ],
)
def tour(
    request: pytest.FixtureRequest,
    chromium: Browser,
    moulds: Callable[[Postgres | None], Stack],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tour]:
    """Load the example data, ask for its pages as its administrator, and look at them."""
    stack = Stack(tmp_path_factory.mktemp("demo") / "var")
    stack.prepare(mould=moulds(None))
    try:
        one_time = first_password(stack)
        stack.manage("load_demo")
        stack.start("web", "worker")  # nothing is applied without a clock: the pages stay as they are
        desk = Office(chromium, stack.url)
        desk.settle_in(one_time, PASSWORD)
        add_what_is_missing(desk)
        stack.manage("apply_due")  # one tick, which gives the new key to its draft
        desk.says("Approve …")
        tour = Tour(ask_for_everything(desk.context.request, stack.url, alike=request.param))
        for path in tour.pages if request.param is None else tour.first_of_each_kind:
            look_at(desk, path, tour)
        look_at_what_asks_who_it_is(desk, tour)
        desk.context.close()
        yield tour
    finally:
        stack.kill()


def look_at_what_asks_who_it_is(desk: Office, tour: Tour) -> None:
    """Confirm that it is them, and look at the pages that led to the question before."""
    own = {a.path for a in tour.answers if a.status == 302 and not a.path.startswith("/admin/")}
    found = {resolve(urlsplit(path).path).url_name: path for path in sorted(own)}
    desk.open("/account/confirm/")
    desk.fill("Your password", PASSWORD)
    desk.press("It is me")
    for name in ("certificate-export-private", "mfa_activate_totp", "mfa_add_webauthn"):
        look_at(desk, found[name], tour)
        assert desk.page.url == desk.url + found[name]


def add_what_is_missing(desk: Office) -> None:
    """Have a key made that waits for a CA, and a draft that can be approved and leaves somebody out."""
    desk.go_to("Identities", "Retail test")
    desk.from_menu("More", "Make a new key and certificate")
    desk.page.get_by_label("A CA – you get a signing request").check()
    desk.field("Key size").select_option("2048")
    desk.press("Make the key")
    desk.says("Download the CSR")
    desk.set_up_draft("Freight test", next_window(at_least=5 * 24 * 3600))
    desk.follow("Leave out …")
    desk.fill("Reason", "Away until the new year")
    desk.page.locator("main form button[type=submit]").click()
    desk.says("1 left out")
    desk.says("The new certificate is on its way: done.")


def test_every_link_leads_to_a_page(tour: Tour) -> None:
    bad = [f"{a.status} {a.path}, from {a.came_from}" for a in tour.answers if a.status not in (200, 302)]
    assert bad == []
    assert len(tour.answers) > 200


def test_every_page_is_reached_by_links(tour: Tour) -> None:
    own = [a.path for a in tour.answers if not re.match("/(admin|static)/", a.path)]
    reached = {resolve(urlsplit(path).path).url_name for path in own}
    # To a partner's pages only a mail leads; tests/rotations/portal walks through them.
    assert set(names(get_resolver())) - reached - WITHOUT_A_LINK - BY_LINK == set()


def names(resolver: URLResolver) -> Iterator[str | None]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield entry.name
        elif entry.namespace != "admin":
            yield from names(entry)


def test_no_page_scrolls_sideways_on_a_phone_or_on_a_desk(tour: Tour) -> None:
    assert _only_with_something(tour.too_wide) == {}


def test_nothing_fails_behind_the_pages_and_nothing_is_asked_for_elsewhere(tour: Tour) -> None:
    assert _only_with_something(tour.noticed) == {}


def test_each_page_has_one_heading_and_names_for_fields_pictures_and_buttons(tour: Tour) -> None:
    assert len(tour.nameless) > 75
    assert _only_with_something(tour.nameless) == {}


def _only_with_something(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {path: wrong for path, wrong in found.items() if wrong}


def test_the_pages_for_strangers_and_errors_are_as_good(chromium: Browser, make_stack: Callable[..., Stack]) -> None:
    tour = Tour()
    stack = make_stack()
    stack.start("web")
    desk = Office(chromium, stack.url)
    for path in ("/login/", "/nowhere/"):
        look_at(desk, path, tour)
    desk.context.close()
    assert _only_with_something(tour.too_wide) == _only_with_something(tour.nameless) == {}
    assert tour.noticed["/login/"] == []


def test_the_tour_sees_what_is_wrong_with_a_page(chromium: Browser) -> None:
    wrong = """<!doctype html><title>Wrong</title><h1>One</h1><h1>Two</h1><p id=a></p><p id=a></p>
        <div style="width: 2000px">wide</div><input type=text><img src="http://elsewhere.example/x.png">
        <button></button><a href="/"><i></i></a><script>console.error("oh"); missing()</script>"""
    desk, tour = Office(chromium, "http://127.0.0.1:9"), Tour()
    desk.context.route("**/*", lambda route: route.fulfill(body=wrong, content_type="text/html"))
    look_at(desk, "/wrong/", tour)
    desk.context.close()
    assert [words.partition(":")[0] for words in tour.too_wide["/wrong/"]] == [
        "light",
        "dark",
        "all opened",
        "desktop",
    ]
    assert [words.partition(":")[0] for words in tour.nameless["/wrong/"]] == [
        "2 headings of the first level",
        "no language",
        "no label",
        "no alt",
        "no name",
        "no name",
        "the id a comes twice",
    ]
    said = " ".join(tour.noticed["/wrong/"])
    for words in ("asks for http://elsewhere.example/x.png", "in the console: oh", "missing is not defined"):
        assert words in said
