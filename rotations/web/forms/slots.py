"""The form to offer partners up to five times, all in one time zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms

from as2certs.accounts.forms import TimeZoneSelect
from as2certs.accounts.models import Installation, User
from as2certs.forms import SafeForm
from rotations.errors import ActionRefused
from rotations.exchange.time_slots import require_possible_slot
from rotations.models import Rotation, Slot
from rotations.planning.windows import Window
from rotations.web.forms.windows import WindowForm, initial_window, zone_choices


class OfferedSlotForm(WindowForm):
    """One offered time in ``zone``; may be empty."""

    WINDOW_REQUIRED = False

    def __init__(
        self, rotation: Rotation, data: Any, *, zone: str, now: datetime, prefix: str, initial: dict[str, Any]
    ) -> None:
        super().__init__(data, now=now, zones={}, prefix=prefix, initial=initial)
        self.rotation, self.zone = rotation, zone
        for name in ("window_zone", "window_last_date", "window_known", "freeze_reason"):
            del self.fields[name]
        self.fields["window_until"].help_text = ""

    def clean(self) -> dict[str, Any]:
        self.cleaned_data["window_zone"] = self.zone
        return super().clean()

    def _check_window(self, window: Window) -> None:
        try:
            require_possible_slot(self.rotation, window, now=self.now)
        except ActionRefused as error:
            self.add_error("window_date", str(error))

    @property
    def is_empty(self) -> bool:
        """Return whether no field is filled in."""
        return not any(self[name].value() for name in ("window_date", "window_from", "window_until"))


class OfferSlotsForm(SafeForm):
    """Up to five times and their time zone; once valid, ``offered`` are the windows."""

    zone = forms.ChoiceField(
        widget=TimeZoneSelect, label="On whose clock", help_text="Partners see them on theirs, and in UTC."
    )

    def __init__(
        self,
        rotation: Rotation,
        user: User,
        data: Any = None,
        *,
        now: datetime,
        proposed: Sequence[Window] = (),
    ) -> None:
        stored = [Window(slot.start, slot.end, slot.zone) for slot in rotation.slots.all()]
        first = stored or list(proposed)
        zone = first[0].zone if stored else rotation.window_zone
        super().__init__(data, initial={"zone": zone})
        partners = rotation.participants.filter(removed_reason="").values_list("partner__time_zone", flat=True)
        field = self.fields["zone"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = zone_choices(
            {
                "Here": [rotation.window_zone, Installation.current().time_zone, user.time_zone],
                "Partners": sorted(set(partners)),
            }
        )
        chosen = str(self.data.get("zone") or "") if self.is_bound else zone
        offered_zones = {name for _, names in field.choices if isinstance(names, list | tuple) for name, _ in names} | {
            "UTC"
        }
        initial = [initial_window(window.start, window.end, zone) for window in first]
        self.slots = [
            OfferedSlotForm(
                rotation,
                data,
                zone=chosen if chosen in offered_zones else "UTC",
                now=now,
                prefix=f"slot{n}",
                initial=initial[n] if n < len(initial) else {},
            )
            for n in range(Slot.MOST)
        ]

    def is_valid(self) -> bool:
        return all([super().is_valid(), *(slot.is_valid() for slot in self.slots)])

    @property
    def offered(self) -> list[Window]:
        return [slot.window for slot in self.slots if slot.window is not None]
