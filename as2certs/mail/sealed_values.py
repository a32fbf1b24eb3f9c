"""What only a mail's reader may know, such as a personal link: sealed in the outbox until the mail leaves.

The stored text holds a mark in its place, so whoever reads the database or the list of mails learns nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from as2certs.mail.models import Message
from as2certs.vault import vault

#: What stands in place of a private part where a mail is shown.
MASK = "•••"


def placeholder(name: str) -> str:
    """Return what stands for a private part in the stored text; nothing in it needs escaping in HTML."""
    return f"~~{name}~~"


def seal_values(parts: Mapping[str, str]) -> bytes | None:
    """Seal the private parts of a mail, by name; None where there are none."""
    return vault().seal(json.dumps(dict(parts)).encode()) if parts else None


def unseal_values(message: Message) -> dict[str, str]:
    """Return the private parts of a mail, by name. Raises VaultError when the vault does not open them."""
    if message.sealed is None:
        return {}
    parts: dict[str, str] = json.loads(vault().unseal(bytes(message.sealed)))
    return parts


def reseal_all() -> int:
    """Seal what waits in mails anew with the first vault key, and return how many mails. Raises VaultError."""
    rows = Message.objects.exclude(sealed=None).only("pk", "sealed").order_by("pk")
    return sum(_reseal_message(row) for row in rows.iterator(chunk_size=100))


def _reseal_message(row: Message) -> bool:
    old = row.sealed
    assert old is not None  # only those are read that have something
    # A mail that left in between has forgotten it.
    return bool(Message.objects.filter(pk=row.pk, sealed=old).update(sealed=vault().reseal(bytes(old))))


def fill_in(text: str, parts: Mapping[str, str]) -> str:
    """Return a text with its private parts in the places of their marks."""
    for name, part in parts.items():
        text = text.replace(placeholder(name), part)
    return text


def mask_values(text: str, names: tuple[str, ...] = ("link",)) -> str:
    """Return a text for somebody who may not know its private parts."""
    return fill_in(text, dict.fromkeys(names, MASK))
