"""The forms of actions on a rotation: reasons, a partner's answer, another window."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms

from as2certs import pki
from as2certs.accounts.models import Installation, User
from as2certs.forms import SafeForm
from as2certs.one_line import to_one_line
from rotations.errors import ThresholdError, WindowError
from rotations.execution import stored_plan
from rotations.letters.schedule import check_days
from rotations.lifecycle import drafts, rescheduling
from rotations.models import Participant, Rotation, Sighting
from rotations.planning.windows import Window, WindowFinding, to_utc
from rotations.web.forms.windows import WindowForm, initial_window


def reason_field(label: str = "Reason", *, required: bool = True, help_text: str = "") -> forms.CharField:
    """Return a field for the reason of an action, which is kept in the audit trail."""
    return forms.CharField(
        label=label,
        required=required,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=help_text or "One sentence. It is kept in the trail.",
        error_messages={"required": "Say why."},
    )


class RotationReasonForm(SafeForm):
    """The reason of an action."""

    reason = reason_field()


class OptionalReasonForm(SafeForm):
    """The reason of an action, where it may be empty."""

    reason = reason_field(required=False, help_text="Needed while steps are left. It is kept in the trail.")


class ApproveForm(SafeForm):
    """Approve a plan; ``seen`` is the version of the rotation that was shown."""

    seen = forms.CharField(widget=forms.HiddenInput)


class PlanDecisionForm(SafeForm):
    """Choose one of two plans; ``seen`` is the version of both that was shown."""

    TAKE, LEAVE = "take", "leave"

    seen = forms.CharField(widget=forms.HiddenInput)
    decision = forms.ChoiceField(
        choices=[(TAKE, "take over"), (LEAVE, "leave")],
        error_messages={
            "required": "Press one of the two buttons.",
            "invalid_choice": "Press one of the buttons.",
        },
    )
    reason = reason_field(
        required=False, help_text="Needed where it stays as it is. One sentence, which is kept in the trail."
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("decision") == self.LEAVE and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why it stays as it is.")
        return cleaned


class EmergencyForm(SafeForm):
    """The reason of an emergency, and why no second person has approved it, if none has."""

    seen = forms.CharField(widget=forms.HiddenInput)
    reason = reason_field("What happened", help_text="Partners don’t read it. It is kept in the trail.")
    alone = reason_field(
        "Why nobody else looks at it first",
        help_text="Two people are the rule: whoever set it up, and whoever presses this button.",
    )

    def __init__(self, alone: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not alone:
            del self.fields["alone"]


class EmptyForm(SafeForm):
    """A confirmation without fields."""


class StepDoneForm(SafeForm):
    """Evidence for a step that was carried out by hand."""

    note = forms.CharField(
        required=False,
        max_length=1000,
        label="What shows that it is done",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Such as the ticket, or whose MDN came back. It is kept in the trail.",
    )


#: The channels over which a partner's fingerprint may have been compared, as stored in the audit trail.
CHANNEL_CHOICES = (
    ("on the telephone", "on the telephone"),
    ("face to face", "face to face"),
    ("in a signed mail", "in a signed mail, or on signed paper"),
    ("over another channel", "over another channel that we trust"),
)
#: Does not count: whoever forges a certificate sends its fingerprint along.
SAME_CHANNEL = ("as it came", "the way by which the certificate came: this does not count as compared")


class FingerprintField(forms.CharField):
    """A fingerprint in one line, without the invisible characters that programs copy along with it.

    The certificate dialog of Windows puts a left-to-right mark (U+200E) before it.
    """

    def to_python(self, value: Any) -> str:
        return to_one_line(super().to_python(value) or "")


class PartnerAnswerForm(SafeForm):
    """What a partner answered by telephone or in writing."""

    fingerprint = FingerprintField(
        required=False,
        max_length=1000,
        label="Fingerprint that their system shows",
        widget=forms.TextInput(
            attrs={
                "class": "font-monospace",
                "autocomplete": "off",
                "spellcheck": "false",
                "autocapitalize": "off",
            }
        ),
        help_text="As they read it out, SHA-256 or SHA-1: capitals, colons and spaces don't matter. "
        "Leave it empty where they only say so; that counts as weak.",
    )
    channel = forms.ChoiceField(
        required=False,
        label="Over which channel",
        choices=[*CHANNEL_CHOICES, SAME_CHANNEL],
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": "Choose one of these channels."},
    )
    installed = forms.BooleanField(required=False, label="They have installed it")
    agreed = forms.BooleanField(required=False, label="They agree to the window")
    spoke_with = forms.CharField(required=False, max_length=200, label="Whom you spoke to")
    note = forms.CharField(required=False, max_length=1000, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, participant: Participant, data: Any = None, *, asks_window: bool) -> None:
        initial = {
            "installed": participant.confirmed_at is not None,
            "agreed": participant.agreed_at is not None,
            "spoke_with": participant.confirmed_with,
            "note": participant.note,
        }
        super().__init__(data, initial=initial)
        if not asks_window:
            del self.fields["agreed"]
        self.is_ours = participant.rotation.side == "own"
        if self.is_ours:
            del self.fields["channel"]
        else:
            self.fields["installed"].label = "They have loaded its private key"
            self.fields["fingerprint"].label = "Fingerprint as they read it out"
            self.fields["fingerprint"].help_text = (
                "The SHA-256, over another channel than the one by which the certificate came: capitals, colons and "
                "spaces don't matter."
            )

    def clean_fingerprint(self) -> str:
        text: str = self.cleaned_data["fingerprint"].strip()
        if text:
            try:
                pki.normalise_fingerprint(text, sha1=self.is_ours)
            except pki.PkiError as error:
                raise forms.ValidationError(str(error)) from error
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and not any(cleaned.get(n) for n in ("fingerprint", "installed", "agreed", "note")):
            raise forms.ValidationError("Say what they answered: a fingerprint, a tick, or at least a note.")
        if cleaned.get("fingerprint") and not self.is_ours and not cleaned.get("channel"):
            self.add_error("channel", "Say over which channel they read it out: it decides whether it counts.")
        return cleaned

    @property
    def is_another_channel(self) -> bool:
        """Return whether the fingerprint was compared over another channel than the certificate's."""
        return self.cleaned_data.get("channel") != SAME_CHANNEL[0]


class DaysField(forms.CharField):
    """Days separated by commas; the value is a sorted list of integers."""

    def __init__(self, *, descending: bool = False, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=100, **kwargs)
        self.descending = descending

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(day) for day in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        parts = [part for part in re.split(r"[,;\s]+", str(value or "")) if part]
        for part in parts:
            if not re.fullmatch(r"[0-9]{1,4}", part):
                raise forms.ValidationError(
                    f"“{part}” is not a whole number of days. Write the days with commas, such as 7, 14."
                )
        return sorted((int(part) for part in parts), reverse=self.descending)

    def validate(self, value: Any) -> None:
        super().validate(value)
        try:
            check_days(value)
        except ThresholdError as error:
            raise forms.ValidationError(str(error)) from error

    def run_validators(self, value: Any) -> None:
        """Skip the validators of a text: the value is a list."""


class ReminderScheduleForm(SafeForm):
    """The days on which partners that have not answered are reminded."""

    after = DaysField(
        label="Days after they were told",
        help_text="With commas, such as 7, 14. A moved window begins them anew. Empty: none.",
    )
    before = DaysField(
        label="Days before the window",
        descending=True,
        help_text="With commas, such as 7, 3, 1. One that falls on the day of one of these counts once.",
    )

    def __init__(self, rotation: Rotation, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if rotation.is_phased:
            self.fields["before"].label = "Days before the last moment"


class SightingForm(SafeForm):
    """A message of a partner and the certificate that it used."""

    use = forms.ChoiceField(label="The message was", choices=Sighting.Use.choices, widget=forms.RadioSelect)
    serial = forms.CharField(
        max_length=200,
        label="Serial number of that certificate",
        widget=forms.TextInput(attrs={"class": "font-monospace", "autocomplete": "off", "spellcheck": "false"}),
        help_text="As your system shows it: decimal, or hex in any spelling.",
    )
    issuer = forms.CharField(
        required=False, max_length=1000, help_text="If your system shows it: it tells certificates of one number apart."
    )
    sha256 = forms.CharField(
        required=False,
        max_length=1000,
        label="SHA-256 fingerprint",
        widget=forms.TextInput(attrs={"class": "font-monospace", "autocomplete": "off", "spellcheck": "false"}),
        help_text="If your system shows it.",
    )
    day = forms.DateField(label="Day", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}))
    time = forms.TimeField(label="Time", widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}))
    note = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Such as the Message-ID. It is kept in the trail.",
    )

    def __init__(self, data: Any = None, *, zone: str, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.zone = zone
        self.fields["time"].help_text = f"On the clock of {zone}; where a time comes twice, the later one is meant."

    def clean_sha256(self) -> str:
        value: str = self.cleaned_data["sha256"]
        try:
            return pki.normalise_fingerprint(value) if value else ""
        except pki.PkiError as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("day") and cleaned.get("time"):
            local = datetime.combine(cleaned["day"], cleaned["time"])
            try:
                cleaned["at"] = to_utc(local, self.zone, fold=1)
            except WindowError as error:
                self.add_error("time", str(error))
        return cleaned


class PostponeForm(WindowForm):
    """Another window for a rotation, and the reason."""

    reason = reason_field("Why it moves", help_text="It is kept in the trail.")
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        rotation: Rotation,
        user: User,
        data: Any = None,
        *,
        now: datetime,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        self.rotation = rotation
        partners = rotation.participants.filter(removed_reason="").values_list("partner__time_zone", flat=True)
        zones = {
            "Here": [rotation.window_zone, Installation.current().time_zone, user.time_zone],
            "Partners": sorted(set(partners)),
        }
        stored = initial_window(rotation.window_start, rotation.window_end, rotation.window_zone)
        super().__init__(data, now=now, zones=zones, initial=stored | dict(initial or {}))
        self.is_phased = rotation.is_phased

    @property
    def window_change(self) -> rescheduling.WindowChange:
        """Return the cleaned data of a valid form."""
        assert self.window is not None  # a valid form has one
        reason, freeze_reason = self.cleaned_data["reason"], self.cleaned_data["freeze_reason"]
        return rescheduling.WindowChange(self.window, reason=reason, freeze_reason=freeze_reason)

    def findings(self, window: Window) -> list[WindowFinding]:
        found = rescheduling.window_findings(self.rotation, window, now=self.now)
        return [finding for finding in found if finding.code != "frozen"]  # freezes have a field of their own

    def freezing(self, window: Window) -> list[str]:
        partners = [participant.partner for participant in stored_plan.active_participants(self.rotation)]
        return drafts.freeze_names(self.rotation.holder, partners, window)


class MoveParticipantForm(PostponeForm):
    """A window of its own for one participant, and the reason."""

    def __init__(
        self,
        participant: Participant,
        user: User,
        data: Any = None,
        *,
        now: datetime,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        self.participant = participant
        stored = initial_window(participant.starts, participant.ends, participant.zone)
        super().__init__(participant.rotation, user, data, now=now, initial=stored | dict(initial or {}))
        self.is_phased = False  # a moment of its own is one
        self.fields["reason"].help_text = f"{participant.partner} reads it in the mail, and it is kept in the trail."

    def findings(self, window: Window) -> list[WindowFinding]:
        found = rescheduling.move_findings(self.participant, window, now=self.now)
        return [finding for finding in found if finding.code != "frozen"]

    def freezing(self, window: Window) -> list[str]:
        return drafts.freeze_names(self.rotation.holder, [self.participant.partner], window)
