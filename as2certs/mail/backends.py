"""An e-mail backend for installations without a mail server: each mail becomes a file in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from mailbox import Maildir
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend


class FolderBackend(BaseEmailBackend):
    """Deliver into the Maildir ``settings.AS2CERTS_MAIL_FOLDER``, which any mail program can open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder: Maildir | None = None

    def open(self) -> bool:
        """Open the folder, creating it if necessary; return whether it was closed before. Raises OSError."""
        if self._folder is not None:
            return False
        path = Path(settings.AS2CERTS_MAIL_FOLDER)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Maildir(path, create=True)
        return True

    def close(self) -> None:
        """Close the folder."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Write each mail to its own file, and return how many. Raises OSError."""
        self.open()
        assert self._folder is not None  # open has just set it
        for message in email_messages:
            self._folder.add(message.message().as_bytes())
        return len(email_messages)
