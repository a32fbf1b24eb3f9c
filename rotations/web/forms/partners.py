"""The forms of actions on the partners of a rotation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.http import QueryDict

from as2certs.forms import SafeForm, SafeModelForm
from partners.models import Partner
from rotations.errors import RotationError, UnknownPlaceholder
from rotations.exchange.follow_up import require_valid_deadline
from rotations.letters import mail_templates
from rotations.models import Participant, Phrase, Rotation
from rotations.planning.windows import load_zone, to_utc
from rotations.web.forms.actions import reason_field

#: The longest lifetime of a link that is handed over.
MAX_LINK_LIFETIME = timedelta(days=730)


#: From so many partners on, a page lists the first few only, and sends their ids in one field: a request has a limit
#: of fields.
MAX_LISTED = 100
LISTED_OF_MANY = 50


def ticked_uids(data: QueryDict) -> list[str]:
    """Return the ids of the partners that a request selects: one field each, or all in the field ``chosen``."""
    return [*data.getlist("partner"), *data.get("chosen", "").split()]


class PartnerChecks(forms.CheckboxSelectMultiple):
    """Checkboxes of partners, or a field with the ids of many."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        return ticked_uids(data)


class PartnerSelectionForm(SafeForm):
    """A selection of a rotation's partners; once valid, ``chosen`` are their participants."""

    partner = forms.MultipleChoiceField(
        widget=PartnerChecks,
        error_messages={
            "required": "Tick at least one partner.",
            "invalid_choice": "One of the partners that you ticked takes no part any more: look at the list again.",
        },
    )

    def __init__(
        self,
        participants: Sequence[Participant],
        data: Any = None,
        *,
        rotation: Rotation,
        now: datetime,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=dict(initial or {}))
        self.rotation, self.now = rotation, now
        self._by_uid = {str(participant.uid): participant for participant in participants}
        field = self.fields["partner"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(uid, participant.partner.name) for uid, participant in self._by_uid.items()]

    @property
    def chosen(self) -> list[Participant]:
        """Return the selected participants in the order of the list."""
        selected = set(self.cleaned_data["partner"])
        return [participant for uid, participant in self._by_uid.items() if uid in selected]


class AnnounceForm(PartnerSelectionForm):
    """The partners to inform. ``seen`` has a line per partner with its id and the version of the mails shown."""

    seen = forms.CharField(widget=forms.HiddenInput)

    @staticmethod
    def write_seen(versions: Iterable[tuple[object, str]]) -> str:
        """Return the value of ``seen`` for pairs of participant id and version."""
        return "\n".join(f"{uid} {version}" for uid, version in versions)

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version of the mails that was shown, by participant id."""
        lines = (line.split() for line in self.cleaned_data["seen"].splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}


class ExtendForm(PartnerSelectionForm):
    """A later deadline for answers; once valid, ``answer_by`` is that time (UTC)."""

    day = forms.DateField(label="Answer by", widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}))
    time = forms.TimeField(label="At", widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}))

    def __init__(self, *args: Any, rotation: Rotation, **kwargs: Any) -> None:
        super().__init__(*args, rotation=rotation, initial={"time": time(17, 0)}, **kwargs)
        starts = rotation.format_window(rotation.window_zone) if rotation.window_start else "not chosen yet"
        self.fields["time"].help_text = (
            f"On the clock of {rotation.window_zone}, and not later than the window: {starts}. "
            "Where a time comes twice, the earlier one is meant."
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("day") and cleaned.get("time"):
            local = datetime.combine(cleaned["day"], cleaned["time"])
            try:
                cleaned["answer_by"] = to_utc(local, self.rotation.window_zone, fold=0)
                require_valid_deadline(self.rotation, cleaned["answer_by"], now=self.now)
            except RotationError as error:
                self.add_error("day", str(error))
        return cleaned


class WaiveForm(PartnerSelectionForm):
    """The reason for continuing without the answers of some partners."""

    reason = reason_field("Why it may go on without them")


def selected_uids(uids: Collection[str], participants: Sequence[Participant]) -> set[str]:
    """Return those of the given ids that belong to participants."""
    return {str(participant.uid) for participant in participants} & set(uids)


class ShareLinkForm(SafeForm):
    """The lifetime of a link to hand over; once valid, ``expires_at`` is its end (UTC) or None."""

    until = forms.DateField(
        required=False,
        label="Good until the end of",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="Empty: it ends by itself 30 days after the rotation does.",
    )

    def __init__(self, partner: Partner, data: Any = None, *, now: datetime) -> None:
        super().__init__(data)
        self.partner, self.now = partner, now
        self.expires_at: datetime | None = None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if day := cleaned.get("until"):
            # The last minute of that day in the partner's time zone.
            ends = datetime.combine(day, time(23, 59), tzinfo=load_zone(self.partner.time_zone)).astimezone(UTC)
            if ends <= self.now:
                self.add_error("until", "That day is over: choose a later one, or leave it empty.")
            elif ends > self.now + MAX_LINK_LIFETIME:
                self.add_error("until", "That is more than two years ahead: choose an earlier day, or leave it empty.")
            self.expires_at = ends
        return cleaned


class PhraseForm(SafeModelForm[Phrase]):
    """The template of one kind of mail, for all partners or for one; placeholders are validated per field."""

    class Meta:
        model = Phrase
        fields = ["subject", "opening", "closing"]
        widgets = {"opening": forms.Textarea(attrs={"rows": 7}), "closing": forms.Textarea(attrs={"rows": 3})}
        labels = {"opening": "How it begins", "closing": "How it ends"}
        help_texts = {
            "subject": "Whose, what and until when: many decide by it whether they open the mail.",
            "opening": "The first line says the whole mail already, and what to do, the fingerprints and the window "
            "follow by themselves.",
            "closing": "Stands at the end, such as a greeting. May stay empty.",
        }

    def __init__(self, kind: str, partner: Partner | None, data: Any = None) -> None:
        row = Phrase.objects.filter(kind=kind, partner=partner).first()
        self.is_own = row is not None
        wording = mail_templates.MailTextSet.of([partner] if partner else [])
        self.behind = wording.of_all(kind) if partner else mail_templates.DEFAULT_TEXTS[kind]
        words = self.behind
        row = row or Phrase(
            kind=kind, partner=partner, subject=words.subject, opening=words.opening, closing=words.closing
        )
        super().__init__(data, instance=row)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in self._meta.fields or ():
            if name in cleaned:
                cleaned[name] = cleaned[name].replace("\r\n", "\n")
                try:
                    mail_templates.check_placeholders(cleaned[name], self.instance.kind)
                except UnknownPlaceholder as error:
                    self.add_error(name, str(error))
        return cleaned

    @property
    def words(self) -> mail_templates.MailText:
        """Return what was typed, or what is there where nothing was."""
        given = {name: str(self[name].value() or "") for name in self._meta.fields or ()}
        return mail_templates.MailText(**given)

    @property
    def is_unchanged(self) -> bool:
        """Return whether the text equals the one in force without it."""
        typed = mail_templates.MailText(*(self.cleaned_data[name] for name in ("subject", "opening", "closing")))
        return not self.is_own and typed == self.behind
