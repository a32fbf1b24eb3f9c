"""Without JavaScript every page still works, from the login to a rotation that is set up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.desk import first_password
from tests.e2e.office import Office, next_window
from tests.e2e.openssl import make_pair
from tests.stack import Stack


@pytest.mark.openssl
@pytest.mark.dates
@pytest.mark.extended
def test_a_rotation_is_set_up_without_javascript(
    chromium: Browser, make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    stack = make_stack()
    one_time = first_password(stack)
    stack.start("web")
    desk = Office(chromium, stack.url, java_script_enabled=False)
    desk.settle_in(one_time, "a password of my own")
    desk.create_identity("Acme production", "ACME-PROD")
    desk.create_partner("Northwind", "NORTHWIND", zone="America/Chicago")
    desk.connect("Acme production", "Northwind")

    pair = make_pair(tmp_path, "acme", name="ACME-PROD", days=20)
    desk.go_to("Identities", "Acme production", "Upload a certificate")
    for despite_warnings in (False, True):
        if despite_warnings:
            desk.says("Choose the file again, please: browsers don’t keep it.")
            desk.page.get_by_label("I have read this").check()
        desk.field("Certificate file").set_input_files(pair.certificate)
        desk.field("Private key file").set_input_files(pair.key)
        desk.press("Check it and take it in")
    desk.says("is taken in and used at once to sign and decrypt.")

    desk.set_up_draft("Acme production", next_window(at_least=5 * 24 * 3600))

    heading = desk.page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("→ a new one, sign + decrypt")
    assert "America/Chicago" in desk.text_of("Facts")
    plan = desk.text_of("The plan, as it would be")
    assert "Northwind" in plan
    assert desk.watch.seen == []
    desk.context.close()
