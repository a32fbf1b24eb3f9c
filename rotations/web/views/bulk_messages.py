"""Messages about the result of a bulk action."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from rotations.exchange.bulk import BulkResult
from rotations.web.presenters.rotation_text import count_noun

#: How many refusals are reported one by one.
MAX_MESSAGES = 8


def report_refusals(request: HttpRequest, result: BulkResult[Any], what: str) -> None:
    """Report the partners that were refused, and why: "Northwind was not told: …"."""
    for participant, why in result.refused[:MAX_MESSAGES]:
        messages.error(request, f"{participant.partner} {what}: {why}")
    more = result.refused[MAX_MESSAGES:]
    if more:
        names = ", ".join(participant.partner.name for participant, _ in more)
        messages.error(request, f"So it went with {count_noun(len(more), 'more partner')} too: {names}.")
