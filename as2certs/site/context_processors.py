"""Template context of every page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Return whether mail is kept in a folder and shown by the application itself."""
    return {"mail_in_folder": settings.EMAIL_BACKEND == "as2certs.mail.backends.FolderBackend"}
