"""Say what came of something that was done for many partners."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from rotations.exchange.bulk import BulkResult

#: So many refusals are told one by one.
MAX_MESSAGES = 8


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun: "1 mail", "12 partners"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def report_refusals(request: HttpRequest, outcome: BulkResult[Any], what: str) -> None:
    """Name who was refused and why: "Northwind was not told: …"."""
    for participant, why in outcome.refused[:MAX_MESSAGES]:
        messages.error(request, f"{participant.partner} {what}: {why}")
    more = outcome.refused[MAX_MESSAGES:]
    if more:
        named = ", ".join(participant.partner.name for participant, _ in more)
        messages.error(request, f"So it went with {count_noun(len(more), 'more partner')} too: {named}.")
