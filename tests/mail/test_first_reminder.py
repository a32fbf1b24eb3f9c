"""A new installation without a mail server reminds its first administrator in the mail folder."""

from __future__ import annotations

from collections.abc import Callable
from mailbox import Maildir

import pytest

from tests.stack import Stack

SEED = """
from datetime import UTC, datetime
from tests.rotations.notifications.expiries import DAY, make_certificate, make_identity
make_certificate(make_identity("ACME-PROD"), datetime.now(UTC) + 20 * DAY)
"""


@pytest.mark.extended
@pytest.mark.dates
def test_it_is_there_without_any_setting(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    assert "password" in stack.manage("make_ready", "--administrator")
    stack.python(SEED)
    assert stack.manage("send_reminders") == "Mails queued: 1.\n"
    assert stack.manage("send_mail") == "1 sent.\n"
    (mail,) = Maildir(stack.folder / "mail")
    assert mail["To"] == "admin <admin@localhost>"
    assert str(mail["Subject"]).startswith("ACME-PROD: certificate expires in 20 days, ")
