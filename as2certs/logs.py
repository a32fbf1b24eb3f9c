"""The format of the log."""

from __future__ import annotations

import logging
import re

#: The secret part of URLs of the partner portal and of unsubscribe links.
_TOKEN = re.compile(r"(/(?:p|stop)/)[^/\s?#\"'<>]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class OneLineFormatter(logging.Formatter):
    """Escape control characters, so that user input can't forge log lines, and mask tokens in URLs.

    A traceback follows on lines of its own. Frameworks log URLs, and readers of logs must not get access to the partner
    portal.
    """

    def format(self, record: logging.LogRecord) -> str:
        return mask_tokens(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), line)


def mask_tokens(text: str) -> str:
    """Return a text with the tokens in its URLs masked."""
    return _TOKEN.sub(r"\1•••", text)
