"""The form fields of a window: a day, two times and a time zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django import forms

from as2certs.accounts.forms import zone_choices as everywhere
from rotations.errors import AmbiguousTime, Candidate, NonexistentTime, WindowError
from rotations.models import Participant, Rotation
from rotations.planning import windows
from rotations.planning.windows import Window, WindowFinding

#: Name of the buttons that fill in a suggested window.
SUGGESTION_FIELD = "suggested"
#: Required together; all may be empty when the window is optional.
WINDOW_FIELDS = ("window_date", "window_from", "window_until")


def zone_choices(first: Mapping[str, Iterable[str]]) -> list[Any]:
    """Return the choices of time zones: those of ``first`` (zones by heading), then all by region."""
    groups: list[Any] = []
    for heading, names in first.items():
        zones = [name for name in dict.fromkeys(names) if name]
        if zones:
            groups.append((heading, [(zone, zone.replace("_", " ")) for zone in zones]))
    return [*groups, *everywhere()]


class WindowForm(forms.Form):
    """A window in a time zone. Once valid, ``window`` is the window, or None.

    A time that a DST change skips is an error of its field; for one that occurs twice, the form asks which is meant.
    Warnings have to be acknowledged by their codes, so that an acknowledgement does not cover a different warning.
    """

    WINDOW_REQUIRED = True

    window_date = forms.DateField(
        required=False, label="Day", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    window_from = forms.TimeField(
        required=False, label="From", widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"})
    )
    window_until = forms.TimeField(
        required=False,
        label="Until",
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        help_text="Earlier than “from” means on the next day.",
    )
    window_last_date = forms.DateField(
        required=False,
        label="Until the day",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Only where the window is longer than a day.",
    )
    window_zone = forms.ChoiceField(
        label="On whose clock",
        help_text="The zone in which you agreed on it with the partners. It follows that zone's clock changes.",
    )
    from_which = forms.ChoiceField(required=False, label="Which one?", widget=forms.RadioSelect)
    until_which = forms.ChoiceField(required=False, label="Which one?", widget=forms.RadioSelect)
    window_known = forms.CharField(required=False, widget=forms.HiddenInput)
    freeze_reason = forms.CharField(
        required=False,
        max_length=1000,
        label="Why it has to be then",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="It is kept in the trail.",
    )

    def __init__(
        self, data: Any = None, *args: Any, now: datetime, zones: Mapping[str, Iterable[str]], **kwargs: Any
    ) -> None:
        super().__init__(_apply_suggestion(data), *args, **kwargs)
        self.now = now
        self.window: Window | None = None
        self.frozen: list[str] = []
        self.warnings: list[WindowFinding] = []
        zone = self.fields["window_zone"]
        assert isinstance(zone, forms.ChoiceField)
        zone.choices = zone_choices(zones)
        for name in ("from_which", "until_which"):
            self._offer(name, ())

    @property
    def warning_codes(self) -> str:
        """Return the codes of the warnings, the value of the checkbox that acknowledges them."""
        return ",".join(sorted(warning.code for warning in self.warnings))

    @property
    def are_warnings_acknowledged(self) -> bool:
        """Return whether exactly these warnings were acknowledged."""
        acknowledged = set(str(self.data.get(self.add_prefix("window_known"), "")).split(","))
        return {warning.code for warning in self.warnings} <= acknowledged

    def freezing(self, window: Window) -> list[str]:
        """Return the names of the freezes that a window overlaps; subclasses know the stations."""
        return []

    def findings(self, window: Window) -> list[WindowFinding]:
        """Return the findings about a window; subclasses know the certificates."""
        return windows.check_window(window, now=self.now, old_ends=None, new_begins=None, new_ends=None)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.clean_window(cleaned)
        return cleaned

    def clean_window(self, cleaned: dict[str, Any]) -> None:
        """Set ``window`` from the fields, or add errors to them."""
        if not self._is_given(cleaned):
            return
        # Read both before validation: an error on a field removes its value.
        first = datetime.combine(cleaned["window_date"], cleaned["window_from"])
        last = datetime.combine(self._last_day(cleaned), cleaned["window_until"])
        start = self._moment("window_from", "from_which", first)
        end = self._moment("window_until", "until_which", last)
        if start is None or end is None:
            return
        self.window = Window(start, end, cleaned["window_zone"])
        self._check_window(self.window)

    def _is_given(self, cleaned: dict[str, Any]) -> bool:
        if any(name in self.errors for name in (*WINDOW_FIELDS, "window_last_date", "window_zone")):
            return False
        missing = [name for name in WINDOW_FIELDS if cleaned.get(name) is None]
        if (
            len(missing) == len(WINDOW_FIELDS)
            and not self.WINDOW_REQUIRED
            and cleaned.get("window_last_date") is None
        ):
            return False
        for name in missing:
            instead = "." if self.WINDOW_REQUIRED else ", or leave the whole window empty for now."
            what = {"window_date": "the day", "window_from": "from when", "window_until": "until when"}[name]
            self.add_error(name, f"Say {what}{instead}")
        return not missing

    def _last_day(self, cleaned: dict[str, Any]) -> date:
        day: date = cleaned["window_date"]
        if cleaned.get("window_last_date"):
            last: date = cleaned["window_last_date"]
            return last
        return day + timedelta(days=1) if cleaned["window_until"] < cleaned["window_from"] else day

    def _moment(self, name: str, which: str, local: datetime) -> datetime | None:
        try:
            return windows.to_utc(local, self.cleaned_data["window_zone"])
        except NonexistentTime as error:
            self.add_error(name, str(error))
        except AmbiguousTime as error:
            self._offer(which, error.candidates)
            answer = str(self.data.get(self.add_prefix(which), ""))
            if answer in ("0", "1"):
                return error.candidates[int(answer)].at
            self.add_error(name, str(error))
        return None

    def _offer(self, which: str, candidates: Iterable[Candidate]) -> None:
        field = self.fields[which]
        assert isinstance(field, forms.ChoiceField)
        named = zip(("the earlier", "the later"), candidates, strict=False)
        field.choices = [(str(c.fold), f"{word}: {c.text}") for word, c in named]
        # _moment() reads the answer; the posted value may stem from a different time.
        field.validate = lambda value: None  # type: ignore[method-assign]

    def _check_window(self, window: Window) -> None:
        found = self.findings(window)
        self.frozen = self.freezing(window)
        if self.frozen and not str(self.cleaned_data.get("freeze_reason") or "").strip():
            finding = windows.freeze_finding(window, self.frozen)
            self.add_error("freeze_reason", f"{finding.reason} {finding.advice}")
        elif not self.frozen:
            self.cleaned_data["freeze_reason"] = ""  # the reason was for another window
        for finding in found:
            if finding.level == "error":
                at = "window_until" if finding.code == "ends_before_start" else "window_date"
                self.add_error(at, f"{finding.reason} {finding.advice}")
        self.warnings = [finding for finding in found if finding.level == "warning"]
        if (
            self.warnings
            and not self.are_warnings_acknowledged
            and not any(f.level == "error" for f in found)
        ):
            self.add_error(
                "window_known",
                "Read what speaks against this window. Tick that you know it, or choose another.",
            )


def first_window(begins: datetime, zone: str) -> Window:
    """Return the hour that starts with the first full hour (UTC) from ``begins`` (aware) on."""
    start = begins.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if start < begins:
        start += timedelta(hours=1)
    return Window(start, start + timedelta(hours=1), zone)


def initial_from_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return initial values from a query string: a rotation's window or a participant's proposal.

    ``?window=`` has the public id of the rotation, ``?proposal=`` that of the participant.
    """
    if query.get("proposal"):
        return _initial_from_proposal(str(query["proposal"]))
    try:
        uid = UUID(str(query.get("window") or ""))
    except ValueError:
        return {}
    other = Rotation.objects.filter(uid=uid).first()
    return initial_window(other.window_start, other.window_end, other.window_zone) if other else {}


def _initial_from_proposal(uid: str) -> dict[str, Any]:
    try:
        participant = Participant.objects.select_related("partner").filter(uid=UUID(uid)).first()
    except ValueError:
        return {}
    if participant is None or participant.proposed_at is None:
        return {}
    zone = participant.proposed_zone or participant.partner.time_zone
    found = initial_window(participant.proposed_start, participant.proposed_end, zone)
    return {**found, "reason": f"{participant.partner} proposed this time."}


def has_suggestion(data: Mapping[str, Any]) -> bool:
    """Return whether a form was posted by a button that only fills in a suggested window."""
    return bool(data.get(SUGGESTION_FIELD))


def suggestion_value(window: Window) -> str:
    """Return the value of the button that fills in a suggested window."""
    return f"{window.start.isoformat()} {window.end.isoformat()} {window.zone}"


def _apply_suggestion(data: Any) -> Any:
    """Return posted data with the window of the pressed suggestion filled in."""
    if not data or not has_suggestion(data):
        return data
    start, end, zone = [*str(data[SUGGESTION_FIELD]).split(" "), "", ""][:3]
    try:
        fields = initial_window(datetime.fromisoformat(start), datetime.fromisoformat(end), zone)
    except (ValueError, WindowError, TypeError):
        return data  # not a value of our buttons
    filled = data.copy()
    for name, value in fields.items():
        filled[name] = (
            "" if value is None else value.strftime("%H:%M") if isinstance(value, time) else str(value)
        )
    return filled


def initial_window(start: datetime | None, end: datetime | None, zone: str) -> dict[str, Any]:
    """Return initial values of the fields for a stored window."""
    if start is None or end is None:
        return {}
    window = Window(start, end, zone or "UTC")
    first, last = window.local_start, window.local_end
    usual = first.date() if last.time() >= first.time() else first.date() + timedelta(days=1)
    return {
        "window_date": first.date(),
        "window_from": first.time(),
        "window_until": last.time(),
        "window_last_date": None if last.date() == usual else last.date(),
        "window_zone": window.zone,
        "from_which": str(first.fold),
        "until_which": str(last.fold),
    }
