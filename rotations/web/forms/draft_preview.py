"""The preview beside the draft form: the window in all time zones, suggested windows and the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import Literal

from rotations.errors import PlanError
from rotations.execution import stored_plan
from rotations.lifecycle import drafts
from rotations.models import Participant
from rotations.models.rotation import FUZZY
from rotations.planning import plan
from rotations.planning.change import CertificateChange, Party, PlannedStep, Role
from rotations.planning.window_suggestions import WindowSuggestion
from rotations.planning.windows import WindowFinding
from rotations.web.forms.drafts import DraftForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rotation_text import LocalWindow

#: With more partners, the plan is shown for the first few of each kind of system: the others have the same steps.
MAX_PLANNED = 100
PLANNED_OF_KIND = 5


class DraftPreview:
    """The preview of a cleaned form, as far as it is filled in. Nothing is stored."""

    def __init__(self, form: DraftForm, *, reader: str) -> None:
        self.form, self.reader = form, reader

    @property
    def is_phased(self) -> bool:
        """Return whether each partner changes when it is ready, so that there is no window to suggest."""
        return self.form.is_phased

    @property
    def participants(self) -> Sequence[Participant]:
        return self.form.participants

    @cached_property
    def local_windows(self) -> list[LocalWindow]:
        window = self.form.window
        if window is None:
            return []
        end_only = self.is_phased and window.start <= self.form.now
        return rotation_text.local_windows(window, self.participants, reader=self.reader, end_only=end_only)

    @cached_property
    def suggestions(self) -> Sequence[WindowSuggestion]:
        """Return suggested windows until one is chosen."""
        form = self.form
        if form.window is not None or form.is_phased or self.window_errors:
            return ()
        zone = form.data.get("window_zone") or self.reader
        old, new = form.chosen_old, form.chosen_new
        return drafts.suggest_windows(form.holder, old=old, new=new, zone=zone, now=form.now)  # type: ignore[arg-type]

    @property
    def warnings(self) -> list[WindowFinding]:
        return self.form.warnings

    @property
    def window_errors(self) -> list[str]:
        """Return the errors of the window once its fields are filled in."""
        names = (
            "window_date",
            "window_from",
            "window_until",
            "window_last_date",
            "window_zone",
            "freeze_reason",
        )
        needed = ("window_until", "window_last_date") if self.is_phased else names[:3]
        filled = all(self.form.data.get(name) for name in needed)
        return [str(error) for name in names for error in self.form.errors.get(name, [])] if filled else []

    @cached_property
    def _parties(self) -> tuple[Party, ...]:
        """Return the partners whose steps are shown."""
        parties = tuple(stored_plan.party_for_partner(p.partner, self.side) for p in self.participants)
        if len(parties) <= MAX_PLANNED:
            return parties
        kinds: dict[bool, list[Party]] = {}
        for party in parties:
            kinds.setdefault(party.holds.fits_both, []).append(party)
        return tuple(party for kind in kinds.values() for party in kind[:PLANNED_OF_KIND])

    @property
    def side(self) -> Literal["own", "partner"]:
        return "own" if self.form.is_own else "partner"

    @property
    def planned_count(self) -> int:
        """Return how many partners' steps are shown."""
        return len(self._parties)

    @cached_property
    def steps(self) -> Sequence[PlannedStep]:
        """Return the planned steps, or none while the form does not suffice for a plan."""
        form, window = self.form, self.form.window
        roles = form.cleaned_data.get("roles") or []
        if window is None or not roles or window.end <= form.now:
            return ()
        old, new = form.chosen_old, form.chosen_new
        change = CertificateChange(
            side=self.side,
            roles=frozenset(Role(role) for role in roles),
            systems=tuple(stored_plan.planned_system(system, self.side) for system in form.affected_systems()),
            parties=self._parties,
            starts=window.start,
            ends=window.end,
            now=form.now,
            fuzzy=form.cleaned_data.get("at_end") in FUZZY,
            phased=form.is_phased,
            grace=timedelta(days=form.cleaned_data.get("grace_days") or 0),
            old_name=old.short_name if old else "nothing",
            new_name=new.short_name if new else "the new certificate",
            holder_name=form.holder.name,
        )
        try:
            return plan.plan(change)
        except PlanError:
            return ()  # the form's errors say what is missing
