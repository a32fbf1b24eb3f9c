"""What only a browser shows: chosen files stay during the confirmation of warnings, and pages poll."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Page, expect

from as2certs.accounts.models import User
from identities.certificates import generation
from identities.models import CertificateRequest, Identity, IdentityCertificate
from tests.certificates import make_pair, p12
from tests.inventory import PASSWORD, make_identity
from tests.people import log_in_browser

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]


@pytest.fixture
def operator_page(page: Page, live_server: object) -> Page:
    """A page of a browser in which an operator is logged in."""
    user = User.objects.create_user("operator", password=PASSWORD)
    user.groups.add(Group.objects.get(name="operator"))
    log_in_browser(page.context, user, str(live_server))
    return page


@pytest.fixture
def identity(operator_page: Page) -> Identity:
    return make_identity()


def test_the_chosen_file_stays_while_the_warnings_are_read(
    operator_page: Page, live_server: object, identity: Identity, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    pair = make_pair("ACME", not_before=now - timedelta(days=1), not_after=now + timedelta(days=3650))
    (tmp_path / "acme.p12").write_bytes(p12(pair))
    operator_page.goto(f"{live_server}{identity.get_absolute_url()}upload/")
    operator_page.get_by_label("Certificate file").set_input_files(tmp_path / "acme.p12")
    operator_page.get_by_label("Password").fill("wrong")
    operator_page.get_by_role("button", name="Check it and take it in").click()
    expect(operator_page.locator("#error_1_id_password, #div_id_password .invalid-feedback").first).to_be_visible()
    operator_page.get_by_label("Certificate file").set_input_files(tmp_path / "acme.p12")
    operator_page.get_by_label("Password").fill("secret")
    operator_page.get_by_role("button", name="Check it and take it in").click()
    operator_page.get_by_label("I have read this").check()
    assert not IdentityCertificate.objects.exists()
    operator_page.get_by_role("button", name="Check it and take it in").click()
    expect(operator_page.get_by_text("is taken in and used at once to sign and decrypt")).to_be_visible()
    assert operator_page.url.endswith(IdentityCertificate.objects.get().get_absolute_url())


def test_the_page_of_a_new_key_shows_the_certificate_by_itself(
    operator_page: Page, live_server: object, identity: Identity
) -> None:
    operator_page.goto(f"{live_server}{identity.get_absolute_url()}generate/")
    operator_page.get_by_label("Key size").select_option("2048")
    operator_page.get_by_role("button", name="Make the key").click()
    expect(operator_page.get_by_text("It begins in a few seconds")).to_be_visible()
    generation.generate_next(now=datetime.now(UTC))
    expect(operator_page.get_by_text("to sign and to decrypt")).to_be_visible()
    assert CertificateRequest.objects.get().state == "done"
    operator_page.get_by_role("link", name="Open the certificate").click()
    expect(operator_page.get_by_role("heading", level=1)).to_have_text("ACME-PROD")


def test_the_folder_is_asked_for_only_where_a_directory_is_chosen(operator_page: Page, live_server: object) -> None:
    operator_page.goto(f"{live_server}/systems/new/")
    expect(operator_page.get_by_label("Folder", exact=True)).to_be_hidden()
    operator_page.get_by_label("Directory and hook").check()
    expect(operator_page.get_by_label("Folder", exact=True)).to_be_visible()


def test_archiving_asks_for_a_reason_in_the_menu(operator_page: Page, live_server: object, identity: Identity) -> None:
    operator_page.goto(f"{live_server}{identity.get_absolute_url()}")
    operator_page.get_by_text("More", exact=True).click()
    operator_page.get_by_text("Archive…").click()
    operator_page.get_by_label("Reason").fill("closed down")
    operator_page.get_by_role("button", name=f"Archive {identity.name}").click()
    expect(operator_page.get_by_text("is archived. Its history stays.")).to_be_visible()
    assert not Identity.objects.active().exists()
