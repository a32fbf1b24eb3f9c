"""Every error of this app that people read, under one base: views, the admin and commands catch ``RotationError``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from as2certs.errors import DomainError


class RotationError(DomainError):
    """Base of the errors of this app; nothing has been changed when one is raised."""


class ActionRefused(RotationError):
    """The action is not possible in the present situation."""


class EditConflict(RotationError):
    """The row was changed by somebody else after it was read."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has changed in the meantime. Look at the page as it is now, and decide again.")


class PageOutdated(RotationError):
    """A partner answered on a page that was outdated; the message says what changed, and by whom."""


class IllegalTransition(RotationError):
    """The state table has no such transition; ``possible`` holds the actions that it allows instead."""

    def __init__(self, message: str, *, state: str, action: str, possible: Iterable[str]) -> None:
        super().__init__(message)
        self.state = state
        self.action = action
        self.possible = tuple(possible)


class PlanError(RotationError):
    """The change can't be planned."""


class NoOwnWindow(RotationError):
    """The plan has no step for this participant alone: all partners change at the same moment."""


class FreezeError(RotationError):
    """The freeze period is not valid."""


class ThresholdError(RotationError):
    """The list of days is not a valid list of reminder thresholds."""


class UnknownPlaceholder(RotationError):
    """A mail template names a placeholder that does not exist; the message lists those that do."""


class SubmissionRefused(RotationError):
    """A file that a partner submitted is refused; the message is written for the partner."""


class PrivateKeySubmitted(SubmissionRefused):
    """The submitted file holds a private key. Nothing of it is stored."""


class FingerprintMismatch(ActionRefused):
    """The fingerprint belongs to another certificate; ``is_old`` is true for the one that is being replaced."""

    def __init__(self, message: str, *, is_old: bool) -> None:
        super().__init__(message)
        self.is_old = is_old


class PreviewOutdated(ActionRefused):
    """The mails to a partner are no longer those that the sender previewed."""


class LinkExpired(RotationError):
    """The access link was valid once; the message says why it no longer is."""


class WindowError(RotationError):
    """A window, or a local time in it, is not valid."""


class UnknownZone(WindowError):
    """The name is not in the IANA time zone database."""


class NonexistentTime(WindowError):
    """The local time falls into a gap of the zone: its clocks jump from ``jump_from`` to ``jump_to`` (naive, local)."""

    def __init__(self, message: str, *, jump_from: datetime, jump_to: datetime) -> None:
        super().__init__(message)
        self.jump_from = jump_from
        self.jump_to = jump_to


@dataclass(frozen=True)
class Candidate:
    """One of the two moments that an ambiguous local time may mean; ``at`` is aware and in UTC."""

    at: datetime
    fold: int
    offset: timedelta
    abbreviation: str
    text: str


class AmbiguousTime(WindowError):
    """The local time occurs twice, as the zone's clocks go back; ``candidates`` are both moments, the earlier first."""

    def __init__(self, message: str, candidates: tuple[Candidate, Candidate]) -> None:
        super().__init__(message)
        self.candidates = candidates
