"""The form fields of a window: a day, two times and a time zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django import forms

from as2certs.accounts.forms import TimeZoneSelect
from as2certs.accounts.forms import zone_choices as everywhere
from as2certs.forms import SafeForm
from as2certs.time_format import format_local_clock, format_local_date, format_local_time
from rotations.errors import AmbiguousTime, Candidate, NonexistentTime, WindowError
from rotations.models import Participant, Rotation
from rotations.planning import windows
from rotations.planning.windows import Window, WindowFinding

#: Name of the buttons that fill in a suggested window.
SUGGESTION_FIELD = "suggested"
#: Answers to "Which start?" and "Which end?": the first and the second of a time that occurs twice, and that of the
#: next day.
FIRST, SECOND, NEXT_DAY = "0", "1", "next"
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


class WindowTimeInput(forms.TimeInput):
    """A time to the minute, or to the second where it has seconds, so that these are neither hidden nor lost."""

    def __init__(self) -> None:
        super().__init__(attrs={"type": "time"})

    def format_value(self, value: Any) -> str | None:
        """Return a time as "22:00" or "22:00:07", and posted text as it is."""
        return format_local_time(value) if isinstance(value, time) else value

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the context, with the step of a second where the value has seconds: browsers refuse them without."""
        context = super().get_context(name, value, attrs)
        if str(context["widget"]["value"] or "").count(":") == 2:
            context["widget"]["attrs"]["step"] = "1"
        return context


class WindowForm(SafeForm):
    """A window in a time zone. Once valid, ``window`` is the window, or None.

    A time that a DST change skips is an error of its field; for one that occurs twice, the form asks which is meant.
    It also asks whether an end such as 01:30 after 01:45 is on the same night, as the clocks go back, or a day later.
    Warnings have to be acknowledged by their codes, so that an acknowledgement does not cover a different warning.
    """

    WINDOW_REQUIRED = True
    #: Whether partners change when they are ready, so that the window may begin at once and have only an end.
    is_phased = False

    window_date = forms.DateField(
        required=False, label="Day", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    window_from = forms.TimeField(required=False, label="From", widget=WindowTimeInput())
    window_until = forms.TimeField(
        required=False,
        label="Until",
        widget=WindowTimeInput(),
        help_text="Earlier than “from” means on the next day.",
    )
    window_last_date = forms.DateField(
        required=False,
        label="Until the day",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Only where the window is longer than a day.",
    )
    window_zone = forms.ChoiceField(
        widget=TimeZoneSelect,
        label="On whose clock",
        help_text="The zone in which you agreed on it with the partners. It follows that zone's clock changes.",
    )
    from_which = forms.ChoiceField(required=False, label="Which start?", widget=forms.RadioSelect)
    until_which = forms.ChoiceField(required=False, label="Which end?", widget=forms.RadioSelect)
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
            self._offer(name, [])
        if not self.is_bound:
            self._offer_stored()

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
        if self.is_phased and cleaned["window_date"] is None:
            self._begin_at_once(cleaned)
            return
        first = datetime.combine(cleaned["window_date"], cleaned["window_from"])
        start = self._moment("window_from", "from_which", first)
        end = self._end(first, start)
        if start is None or end is None:
            return
        self.window = Window(start, end, cleaned["window_zone"])
        self._check_window(self.window)

    def _is_given(self, cleaned: dict[str, Any]) -> bool:
        if any(name in self.errors for name in (*WINDOW_FIELDS, "window_last_date", "window_zone")):
            return False
        missing = [name for name in WINDOW_FIELDS if cleaned.get(name) is None]
        if self.is_phased and missing == ["window_date", "window_from"]:
            if cleaned.get("window_last_date") is None:
                self.add_error("window_last_date", "Say until which day.")
            return cleaned.get("window_last_date") is not None
        if len(missing) == len(WINDOW_FIELDS) and not self.WINDOW_REQUIRED and cleaned.get("window_last_date") is None:
            return False
        for name in missing:
            instead = "." if self.WINDOW_REQUIRED else ", or leave the whole window empty for now."
            what = {"window_date": "the day", "window_from": "from when", "window_until": "until when"}[name]
            self.add_error(name, f"Say {what}{instead}")
        return not missing

    def _begin_at_once(self, cleaned: dict[str, Any]) -> None:
        """Set ``window`` from its end alone: it begins now."""
        until = datetime.combine(cleaned["window_last_date"], cleaned["window_until"])
        end = self._moment("window_until", "until_which", until)
        if end is None:
            return
        if end <= self.now:
            self.add_error("window_last_date", "The last moment is over. Choose a later one.")
            return
        self.window = Window(self.now.replace(second=0, microsecond=0), end, cleaned["window_zone"])
        self._check_window(self.window)

    def _end(self, first: datetime, start: datetime | None) -> datetime | None:
        """Return the end (UTC), or add an error. ``first`` is the local start, ``start`` the same in UTC if known."""
        last_day, until = self.cleaned_data.get("window_last_date"), self.cleaned_data["window_until"]
        again = None if last_day else windows.same_night_end(first, until, self.cleaned_data["window_zone"])
        answer = self._answer("until_which")
        if again is not None and (start is None or start < again.at or answer == SECOND):
            self._offer_nights(again, first, until, self.cleaned_data["window_zone"])
            if answer == SECOND:
                return again.at
            if answer != NEXT_DAY:
                self.add_error(
                    "window_until",
                    f"{format_local_time(until)} is earlier than the start by the clock, but "
                    "the clocks go back that night, so it comes again after it. Say whether the window ends then, or "
                    "on the next day.",
                )
                return None
        if last_day is None:
            last_day = first.date() + timedelta(days=1 if until < first.time() else 0)
        return self._moment("window_until", "until_which", datetime.combine(last_day, until))

    def _answer(self, which: str) -> str:
        return str(self.data.get(self.add_prefix(which), ""))

    def _moment(self, name: str, which: str, local: datetime) -> datetime | None:
        try:
            return windows.to_utc(local, self.cleaned_data["window_zone"])
        except NonexistentTime as error:
            self.add_error(name, str(error))
        except AmbiguousTime as error:
            self._offer(which, _candidate_choices(error.candidates))
            answer = self._answer(which)
            if answer in (FIRST, SECOND):
                return error.candidates[int(answer)].at
            self.add_error(name, str(error))
        return None

    def _offer_stored(self) -> None:
        """Ask which times are meant in a form with a stored window too, so that it can be saved as it is."""
        day, start, until, last_day, zone = (
            self.initial.get(name)
            for name in ("window_date", "window_from", "window_until", "window_last_date", "window_zone")
        )
        if not (isinstance(day, date) and isinstance(start, time) and isinstance(until, time) and zone):
            return
        first = datetime.combine(day, start)
        self._offer("from_which", _choices(first, zone))
        again = None if last_day else windows.same_night_end(first, until, zone)
        if again is not None:
            self._offer_nights(again, first, until, zone)
            return
        if last_day is None:
            last_day = day + timedelta(days=1 if until < start else 0)
        self._offer("until_which", _choices(datetime.combine(last_day, until), zone))

    def _offer_nights(self, again: Candidate, first: datetime, until: time, zone: str) -> None:
        """Ask on which day the window ends, instead of saying that it is the next one."""
        self._offer("until_which", _same_night_choices(again, first, until, zone))
        self["window_until"].help_text = ""

    def _offer(self, which: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[which]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
        # _moment() reads the answer; the posted value may stem from a different time.
        field.validate = lambda value: None  # type: ignore[method-assign]

    def _check_window(self, window: Window) -> None:
        found = self.findings(window)
        self.frozen = self.freezing(window)
        if self.frozen and not str(self.cleaned_data.get("freeze_reason") or "").strip():
            finding = windows.freeze_finding(self.frozen, phased=self.is_phased)
            self.add_error("freeze_reason", f"{finding.reason} {finding.advice}")
        elif not self.frozen:
            self.cleaned_data["freeze_reason"] = ""  # the reason was for another window
        for finding in found:
            if finding.level == "error":
                about_end = finding.code in ("ends_before_start", "old_ends_too_soon")
                at = "window_until" if about_end else "window_date"
                self.add_error(at, f"{finding.reason} {finding.advice}")
        self.warnings = [finding for finding in found if finding.level == "warning"]
        if self.warnings and not self.are_warnings_acknowledged and not any(f.level == "error" for f in found):
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


def _candidate_choices(candidates: Iterable[Candidate]) -> list[tuple[str, str]]:
    named = zip(("the earlier", "the later"), candidates, strict=True)
    return [(str(c.fold), f"{word}: {c.text}") for word, c in named]


def _choices(local: datetime, zone: str) -> list[tuple[str, str]]:
    """Return the choices for a naive local time that occurs twice; none for another."""
    try:
        windows.to_utc(local, zone)
    except AmbiguousTime as error:
        return _candidate_choices(error.candidates)
    except WindowError:
        return []  # the error is shown once the form is sent
    return []


def _same_night_choices(again: Candidate, first: datetime, until: time, zone: str) -> list[tuple[str, str]]:
    """Return the choices for an end that is earlier than the start by the clock only; ``first`` is the local start."""
    next_day = datetime.combine(first.date() + timedelta(days=1), until, windows.load_zone(zone))
    return [
        (SECOND, f"the same night, after the clocks go back: {again.text}"),
        (NEXT_DAY, f"the next day: {format_local_date(next_day)}, {format_local_clock(next_day)}"),
    ]


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
        filled[name] = "" if value is None else format_local_time(value) if isinstance(value, time) else str(value)
    return filled


def initial_window(start: datetime | None, end: datetime | None, zone: str) -> dict[str, Any]:
    """Return initial values of the fields for a stored window."""
    if start is None or end is None:
        return {}
    window = Window(start, end, zone or "UTC")
    first, last = window.local_start, window.local_end
    next_day = first.date() + timedelta(days=1)
    again = windows.same_night_end(first.replace(tzinfo=None), last.time(), window.zone)
    until_which = str(last.fold)
    if again is not None and last.date() == next_day:
        until_which, usual = NEXT_DAY, next_day
    elif again is not None:
        usual = first.date()
    else:
        usual = first.date() if last.time() >= first.time() else next_day
    return {
        "window_date": first.date(),
        "window_from": first.time(),
        "window_until": last.time(),
        "window_last_date": None if last.date() == usual else last.date(),
        "window_zone": window.zone,
        "from_which": str(first.fold),
        "until_which": until_which,
    }
