"""Delivery into a folder that any mail program can open."""

from __future__ import annotations

import email
import email.policy
from mailbox import Maildir
from pathlib import Path
from typing import Any

import pytest

from as2certs.mail import outbox
from tests.mail.messages import NOW, make_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    """Return the mail folder of the settings, which does not exist yet."""
    settings.EMAIL_BACKEND = "as2certs.mail.backends.FolderBackend"
    settings.AS2CERTS_MAIL_FOLDER = tmp_path / "var" / "mail"
    return tmp_path / "var" / "mail"


def test_each_mail_becomes_a_file_that_only_we_can_read(folder: Path) -> None:
    message, _ = make_message(), make_message("lee@example.com")
    assert outbox.send_due(now=NOW) == 2
    kept = [email.message_from_bytes(m.as_bytes(), policy=email.policy.default) for m in Maildir(folder)]
    assert sorted(m["To"] for m in kept) == ["Kim Müller <kim@example.com>", "Kim Müller <lee@example.com>"]
    assert message.message_id in {m["Message-ID"] for m in kept}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_keeps_the_mail_in_the_outbox(folder: Path) -> None:
    folder.parent.parent.joinpath("var").write_text("a file stands in the way")
    message = make_message()
    assert outbox.send_due(now=NOW) == 0
    message.refresh_from_db()
    assert (message.state, message.attempts) == ("queued", 0)
    assert message.error == f"The mail folder {folder} can't be used: File exists."
