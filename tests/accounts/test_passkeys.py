"""Passkeys in a browser with a virtual authenticator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.urls import reverse
from playwright.sync_api import CDPSession, Page, expect
from pytest_django.live_server_helper import LiveServer

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from tests.inventory import add_certificate, make_identity
from tests.people import PASSWORD, make_person

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def vera() -> User:
    return make_person("vera", "viewer")


@dataclass
class PasskeyDevice:
    """What holds passkeys in the page's browser."""

    session: CDPSession
    id: str

    def forget(self) -> None:
        self.session.send("WebAuthn.clearCredentials", {"authenticatorId": self.id})


@pytest.fixture
def device(page: Page) -> Iterator[PasskeyDevice]:
    """Give the page's browser a device with passkeys, whose owner always agrees."""
    session: CDPSession = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options: dict[str, Any] = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasUserVerification": True,
        "isUserVerified": True,
        "hasResidentKey": True,
        "automaticPresenceSimulation": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield PasskeyDevice(session, str(made["authenticatorId"]))
    session.detach()


def localhost_url(server: LiveServer, name: str) -> str:
    """Return an address under the name localhost: browsers give no passkeys to addresses of numbers."""
    return f"{server.url}{reverse(name)}"


def log_in(page: Page, server: LiveServer) -> None:
    page.goto(localhost_url(server, "login"))
    page.get_by_label("User name").fill("vera")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def add_passkey(page: Page, server: LiveServer) -> None:
    log_in(page, server)
    page.goto(localhost_url(server, "mfa_index"))
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="It is me").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("Vera’s laptop")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    expect(page.locator(".recovery-codes li")).to_have_count(10)


def log_out(page: Page) -> None:
    page.context.clear_cookies()


def test_a_passkey_is_added_and_lets_its_owner_in(
    vera: User, live_server: LiveServer, page: Page, device: PasskeyDevice
) -> None:
    troubles: list[str] = []
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    add_passkey(page, live_server)
    page.get_by_role("link", name="I have put them away").click()
    expect(page.get_by_role("link", name="Remove Vera’s laptop")).to_be_visible()
    log_out(page)
    log_in(page, live_server)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url(localhost_url(live_server, "home"))
    entry = Entry.objects.filter(verb="person.logged_in").latest("id")
    assert entry.new == {"with": ["password", "passkey"]}
    assert troubles == []  # nothing that the Content-Security-Policy would have stopped


@pytest.mark.extended
def test_a_device_without_the_passkey_is_refused_with_a_message(
    vera: User, live_server: LiveServer, page: Page, device: PasskeyDevice
) -> None:
    add_passkey(page, live_server)
    log_out(page)
    device.forget()
    log_in(page, live_server)
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.get_by_text("No passkey came")).to_be_visible()
    page.goto(localhost_url(live_server, "home"))
    expect(page).to_have_url(re.compile("/login/"))


def test_an_answer_of_another_key_is_refused(
    vera: User, live_server: LiveServer, page: Page, device: PasskeyDevice
) -> None:
    add_passkey(page, live_server)
    stored = Authenticator.objects.get(type="webauthn")
    log_out(page)
    log_in(page, live_server)
    # What was sent at another time, to another challenge, is sent again.
    page.evaluate(
        """(answer) => {
            const field = document.querySelector("input[name=credential]");
            field.value = JSON.stringify(answer);
            field.form.submit();
        }""",
        {
            "type": "public-key",
            "id": stored.data["credential"]["id"],
            "rawId": stored.data["credential"]["rawId"],
            "response": {
                "clientDataJSON": stored.data["credential"]["response"]["clientDataJSON"],
                "authenticatorData": "AAAA" * 50,
                "signature": "AAAA" * 20,
            },
            "clientExtensionResults": {},
        },
    )
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.goto(localhost_url(live_server, "home"))
    expect(page).to_have_url(re.compile("/login/"))


@pytest.mark.extended
def test_a_passkey_reauthenticates_and_is_removed(
    vera: User, live_server: LiveServer, page: Page, device: PasskeyDevice
) -> None:
    add_passkey(page, live_server)
    page.goto(f"{localhost_url(live_server, 'account_reauthenticate')}?next={reverse('mfa_index')}")
    page.get_by_role("link", name="with your passkey").click()
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url(localhost_url(live_server, "mfa_index"))
    assert Entry.objects.filter(verb="person.confirmed").latest("id").new == {"with": "passkey"}
    page.get_by_role("link", name=re.compile("^Remove")).click()
    page.get_by_role("button", name="Remove the passkey").click()
    expect(page.get_by_text("The passkey is removed")).to_be_visible()
    assert not Authenticator.objects.exists()  # the recovery codes went with it


@pytest.mark.extended
def test_a_passkey_suffices_to_export_a_private_key(
    vera: User, live_server: LiveServer, page: Page, device: PasskeyDevice
) -> None:
    vera.groups.set([Group.objects.get(name="administrator")])
    certificate = add_certificate(make_identity())
    add_passkey(page, live_server)
    log_out(page)
    log_in(page, live_server)
    page.get_by_role("button", name="Use your passkey").click()
    page.wait_for_url(localhost_url(live_server, "home"))
    page.goto(f"{live_server.url}{reverse('certificate-export-private', args=[certificate.uid])}")
    page.get_by_role("link", name="with your passkey").click()
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Take out the private key")
    page.get_by_label("Why does the key leave?").fill("a new server")
    page.get_by_label("Password of the file").fill("protects the file")
    page.get_by_label("The same again").fill("protects the file")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download the private key").click()
    assert coming.value.suggested_filename.endswith(".p12")
    verbs = Entry.objects.order_by("-id").values_list("verb", flat=True)[:3]
    assert list(verbs) == ["key.exported", "key.opened", "person.confirmed"]
