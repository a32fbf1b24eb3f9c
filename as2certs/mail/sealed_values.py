"""The private parts of a mail, such as a personal link, sealed in the outbox until the mail is sent.

The stored text holds placeholders instead, so that neither the database nor the list of mails reveals them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from as2certs.mail.models import Message
from as2certs.vault import vault

#: Replaces a private part where a mail is displayed.
MASK = "•••"


def placeholder(name: str) -> str:
    """Return the placeholder of a private part; it needs no escaping in HTML."""
    return f"~~{name}~~"


def seal_values(parts: Mapping[str, str]) -> bytes | None:
    """Encrypt the private parts of a mail; None if there are none."""
    return vault().seal(json.dumps(dict(parts)).encode()) if parts else None


def unseal_values(message: Message) -> dict[str, str]:
    """Decrypt the private parts of a mail, by name. Raises VaultError."""
    if message.sealed is None:
        return {}
    parts: dict[str, str] = json.loads(vault().unseal(bytes(message.sealed)))
    return parts


def reseal_all() -> int:
    """Re-encrypt the private parts of all mails with the first vault key; return how many. Raises VaultError."""
    rows = Message.objects.exclude(sealed=None).only("pk", "sealed").order_by("pk")
    return sum(_reseal_message(row) for row in rows.iterator(chunk_size=100))


def _reseal_message(row: Message) -> bool:
    old = row.sealed
    assert old is not None  # excluded by the query
    # A mail that was sent in the meantime no longer has private parts.
    return bool(Message.objects.filter(pk=row.pk, sealed=old).update(sealed=vault().reseal(bytes(old))))


def fill_in(text: str, parts: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced by the private parts."""
    for name, part in parts.items():
        text = text.replace(placeholder(name), part)
    return text


def mask_values(text: str, names: tuple[str, ...] = ("link",)) -> str:
    """Return a text with its private parts masked."""
    return fill_in(text, dict.fromkeys(names, MASK))
