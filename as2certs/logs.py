"""The format of the log, and a limit on what repeats in it."""

from __future__ import annotations

import copy
import logging
import re
from time import monotonic
from typing import TextIO

#: The secret part of URLs of the partner portal, of unsubscribe links, and of addresses for asynchronous MDNs.
_TOKEN = re.compile(r"(/(?:p|stop|as2/mdn/[0-9a-f-]{36})/)[^/\s?#\"'<>]+")
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


class RepeatLimitHandler(logging.StreamHandler[TextIO]):
    """Write a warning or an error that repeats once a minute only, in one line that counts the repetitions.

    Where a disk is full or a broker away, each second would otherwise bring another traceback, and hide the first one.
    """

    SECONDS = 60.0
    #: After this time without a repetition, the next one is logged as if it were the first.
    FORGET_SECONDS = 600.0
    MAX_REMEMBERED = 500

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        #: Message → when it was written, and how often it was left out since.
        self._written: dict[tuple[str, int, str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it repeats; the caller holds the handler's lock."""
        shown = record if record.levelno < logging.WARNING else self._limited(record, now=monotonic())
        if shown is not None:
            super().emit(shown)

    def _limited(self, record: logging.LogRecord, *, now: float) -> logging.LogRecord | None:
        raised = record.exc_info[1] if record.exc_info else None
        message = record.getMessage()
        key = (record.name, record.levelno, message, repr(raised))
        at, left_out = self._written.pop(key, (now - self.FORGET_SECONDS, 0))
        if now - at < self.SECONDS:
            self._written[key] = (at, left_out + 1)
            return None
        self._written[key] = (now, 0)  # at the end: the dictionary is in the order of the last use
        if len(self._written) > self.MAX_REMEMBERED:
            del self._written[next(iter(self._written))]
        if now - at >= self.FORGET_SECONDS:
            return record
        again = copy.copy(record)
        reason = f": {raised!r}" if raised else ""
        again.msg, again.args = f"{message}{reason} (again, {left_out + 1} times since it was logged)", None
        again.exc_info = again.exc_text = again.stack_info = None
        return again
