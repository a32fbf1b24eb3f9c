"""How log lines are written."""

from __future__ import annotations

import logging
import re

#: The part of an address that is the key to a partner's page, or to stopping somebody's reminders.
_TOKEN = re.compile(r"(/(?:p|stop)/)[^/\s?#\"'<>]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class OneLineFormatter(logging.Formatter):
    """Keep what was said on one line: a name that somebody chose must not look like a line of ours.

    Only the traceback of an error stands below it. The token of a partner's link is left out of both: frameworks name
    the address in what they say of it, and whoever reads logs must not get at partners' pages.
    """

    def format(self, record: logging.LogRecord) -> str:
        return mask_tokens(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), line)


def mask_tokens(text: str) -> str:
    """Return a text with the addresses that are keys made useless."""
    return _TOKEN.sub(r"\1•••", text)
