"""Messages in the outbox."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from as2certs.mail.models import Message

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def make_message(to: str = "kim@example.com", **columns: Any) -> Message:
    """Store a mail that is due."""
    uid = uuid.uuid4()
    given: dict[str, Any] = {
        "uid": uid,
        "key": f"test:{uid}",
        "kind": "test",
        "to_address": to,
        "to_name": "Kim Müller",
        "subject": "ACME-PROD: certificate expires in 20 days, 13 Dec 2026",
        "text": "It expires in 20 days: Zürich.\n",
        "html": "<!doctype html><html><head><title>x</title></head><body><p>It expires.</p></body></html>",
        "message_id": f"<{uid}@certs.example.com>",
        "created_at": NOW,
        "due_at": NOW,
        **columns,
    }
    return Message.objects.create(**given)
