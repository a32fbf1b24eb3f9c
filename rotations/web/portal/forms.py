"""The forms of a partner's page. An invalid form keeps its input, but never a private key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.forms.utils import ErrorDict
from django.http import QueryDict

from as2certs import pki
from as2certs.forms import SafeForm
from as2certs.time_format import format_near_moment
from identities.capabilities import SOFTWARE_CHOICES, Support
from identities.certificates.file_fields import FileContentField
from rotations.exchange.responses import OPERATOR_ONLY_FINDINGS
from rotations.models import Rotation, Slot
from rotations.planning.change import Act
from rotations.planning.windows import Window, WindowFinding, check_window
from rotations.web.forms.windows import WindowForm

PRIVATE_KEY_DISCARDED = (
    "What you sent holds a private key. We threw it away at once and kept nothing of it. But a private key that has "
    "left your system is not safe any more: please replace that key, and send us only certificates, never keys."
)
#: A text of as many characters is no fingerprint with its label, but a certificate, however it is encoded.
MIN_CERTIFICATE_TEXT = 400


def text_area(rows: int = 3, **attrs: str) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": rows, **attrs})


class PortalForm(SafeForm):
    """A form of a partner's page. The ids of its fields begin with ``NAME``, since a page has several forms."""

    NAME: ClassVar[str]

    def __init__(self, data: QueryDict | None = None, files: Any = None, **kwargs: Any) -> None:
        self.holds_key = False
        super().__init__(None if data is None else self._without_keys(data), files, auto_id=f"{self.NAME}_%s", **kwargs)

    def _without_keys(self, data: QueryDict) -> QueryDict:
        """Return posted data without values that contain a private key: they are neither stored nor shown."""
        cleaned = data.copy()
        for name, values in data.lists():
            if any(pki.contains_private_key(str(value).encode()) for value in values):
                cleaned.setlist(name, [""])
                self.holds_key = True
        return cleaned

    def full_clean(self) -> None:
        super().full_clean()
        if self.holds_key:
            self.refuse(PRIVATE_KEY_DISCARDED)

    def refuse(self, sentence: str, field: str | None = None) -> None:
        """Replace all errors by one."""
        self._errors = ErrorDict()
        self.add_error(field, sentence)

    @property
    def input_texts(self) -> list[tuple[str, str]]:
        """Return the input as pairs of label and text, for a page that no longer has this form."""
        found = []
        for field in self.visible_fields():
            value = field.data
            if isinstance(value, str) and value.strip() and not isinstance(field.field, FileContentField):
                found.append((str(field.label), value))
        return found


class InstalledForm(PortalForm):
    """The installation of the certificate: its fingerprint, the exported certificate, or a plain statement.

    Once valid, ``proof`` is a fingerprint in hex or empty, and ``proof_field`` the field that contained it.
    """

    NAME = "installed"
    #: The value of the button that confirms without a proof.
    WITHOUT_PROOF: ClassVar[str] = "word"

    fingerprint = forms.CharField(
        required=False,
        max_length=pki.MAX_FILE_BYTES,
        label="The fingerprint that your system shows",
        help_text="SHA-256, or SHA-1 if it shows no other. Colons, spaces and capitals don’t matter.",
        widget=text_area(
            3,
            **{
                "class": "font-monospace",
                "autocomplete": "off",
                "autocapitalize": "off",
                "spellcheck": "false",
            },
        ),
    )
    certificate_file = FileContentField(
        required=False,
        label="The certificate, exported from your system",
        help_text="A .cer, .pem or .p7b file. Only the certificate, never its private key.",
    )
    note = forms.CharField(required=False, max_length=1000, label="Anything we should know", widget=text_area(2))

    def __init__(self, data: QueryDict | None = None, files: Any = None, *, is_own: bool = True) -> None:
        super().__init__(data, files)
        self.proof, self.proof_field, self.is_own = "", "fingerprint", is_own
        if not is_own:
            self.fields["fingerprint"].help_text = "SHA-256. Colons, spaces and capitals don’t matter."
            self.fields["fingerprint"].label = "The fingerprint of your new certificate"
            self.fields["certificate_file"].label = "The certificate as a file"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors or self.holds_key:
            return cleaned
        text, file = cleaned["fingerprint"].strip(), cleaned["certificate_file"]
        if file is not None:
            self._read_certificate("certificate_file", file)
        if text and not self.errors:
            self._read_text(text)
        if not self.proof and not self.errors and self.data.get("how") != self.WITHOUT_PROOF:
            self.add_error(
                "fingerprint",
                "Paste the fingerprint, or send the certificate. If you can’t get at either, use the button below that "
                "confirms without.",
            )
        return cleaned

    def _read_text(self, text: str) -> None:
        if len(text) >= MIN_CERTIFICATE_TEXT:  # the certificate itself was pasted
            self._read_certificate("fingerprint", text.encode())
            return
        try:
            fingerprint = pki.normalise_fingerprint(text, sha1=self.is_own)
        except pki.PkiError as error:
            self.add_error("fingerprint", str(error))
            return
        if not self.proof:
            self.proof, self.proof_field = fingerprint, "fingerprint"

    def _read_certificate(self, field: str, data: bytes) -> None:
        try:
            material = pki.read_public(data, partner=True)
        except pki.PrivateKeyFound:
            self.holds_key = True  # full_clean() replaces all errors
        except pki.PkiError as error:
            self.add_error(field, str(error))
        else:
            if material.older:
                self.add_error(
                    field,
                    "The file holds an old and a new certificate: send only the new one, as your system has it now.",
                )
                return
            self.proof, self.proof_field = material.description.sha256, field


class AgreeForm(PortalForm):
    """Agreement to the window."""

    NAME = "window"


class AnswerSlotsForm(PortalForm):
    """The offered times that suit a partner."""

    NAME = "slots"

    can = forms.MultipleChoiceField(required=False, label="At which of these times can you?")
    none = forms.BooleanField(required=False, label="At none of them")

    def __init__(self, data: QueryDict | None = None, *, slots: Mapping[str, Slot]) -> None:
        super().__init__(data)
        self.slots = slots
        field = self.fields["can"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(uid, uid) for uid in slots]
        field.error_messages["invalid_choice"] = "One of these times is no longer offered: look at those below."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and bool(cleaned["can"]) == cleaned["none"]:
            self.add_error("can", "Tick the times at which you can, or tick “At none of them”.")
        return cleaned

    @property
    def posted_choices(self) -> set[str]:
        """Return the posted choices, even if they are invalid."""
        assert isinstance(self.data, QueryDict)
        return {*self.data.getlist("can"), *(["none"] if "none" in self.data else [])}

    @property
    def chosen(self) -> list[Slot]:
        return [self.slots[uid] for uid in self.cleaned_data["can"]]


class ProposeForm(PortalForm, WindowForm):
    """A proposal of another time, in the partner's time zone or any other."""

    NAME = "propose"

    note = forms.CharField(required=False, max_length=1000, label="Why another time, if you like", widget=text_area(2))

    def __init__(self, rotation: Rotation, zone: str, data: QueryDict | None = None, *, now: datetime) -> None:
        self.rotation = rotation
        zones = {"Yours": [zone], "Ours": [rotation.window_zone, "UTC"]}
        super().__init__(data, now=now, zones=zones, initial={"window_zone": zone})
        self.fields["window_zone"].label = "Time zone"
        self.fields["window_zone"].help_text = "Yours, unless you choose another."
        self.fields["window_last_date"].help_text = "Only if it ends on a later day."

    def findings(self, window: Window) -> list[WindowFinding]:
        """Return what makes a time impossible, in texts for a partner; other findings are ours to weigh."""
        old, new = self.rotation.old, self.rotation.new
        found = check_window(
            window,
            now=self.now,
            old_ends=old.not_after if old else None,
            new_begins=new.not_before if new else None,
            new_ends=new.not_after if new else None,
        )
        impossible = [f for f in found if f.level == "error" or f.code in OPERATOR_ONLY_FINDINGS]
        return [WindowFinding(f.code, "error", *self._explain(f, window)) for f in impossible]

    def _explain(self, finding: WindowFinding, window: Window) -> tuple[str, str]:
        def text(moment: datetime) -> str:
            return format_near_moment(moment, self.now, window.zone)

        old, new = self.rotation.old, self.rotation.new
        match finding.code:
            case "after_old_ends" | "old_ends_inside" if old:
                return f"The old certificate ends before that: {text(old.not_after)}.", (
                    "Choose a time that is over by then."
                )
            case "before_new_begins" if new:
                return (
                    f"The new certificate begins after that: {text(new.not_before)}.",
                    "Choose a later time.",
                )
            case "after_new_ends" if new:
                return (
                    f"The new certificate ends before that: {text(new.not_after)}.",
                    "Choose an earlier time.",
                )
            case "past":
                return "That time is over.", "Choose one that is still to come."
            case "already_open":
                return "That time has begun already.", "Choose one that begins later."
            case "ends_before_start":
                return "This ends before it begins.", "Choose a later end."
        return finding.reason, finding.advice


class DeclineForm(PortalForm):
    """A refusal, and its reason."""

    NAME = "decline"

    reason = forms.CharField(
        max_length=1000,
        label="Why it can’t be done",
        widget=text_area(3),
        error_messages={"required": "Say why it can’t be done, so that we can find another way."},
    )


class CapabilityForm(PortalForm):
    """Which AS2 software a partner uses, and whether it can keep both certificates for a while."""

    NAME = "capability"

    software = forms.ChoiceField(
        required=False,
        choices=[("", "I don’t know"), *SOFTWARE_CHOICES],
        widget=forms.Select(attrs={"class": "form-select"}),
        error_messages={"invalid_choice": "Choose your software from the list, or “Another one”."},
    )
    keeps_both = forms.ChoiceField(
        choices=Support.choices,
        error_messages={
            "required": "Say yes or no, or that you don’t know.",
            "invalid_choice": "Say yes or no, or that you don’t know.",
        },
    )


class SwitchedForm(PortalForm):
    """A report that the partner switched, or removed the old certificate."""

    NAME = "switched"

    act = forms.ChoiceField(
        choices=[(Act.PARTNER_CUT_OVER.value, "switched"), (Act.PARTNER_RETIRE.value, "removed")],
        error_messages={"required": "Say what you have done.", "invalid_choice": "Say what you have done."},
    )


class ReportForm(PortalForm):
    """A report whether messages flow after the change."""

    NAME = "report"

    works = forms.ChoiceField(
        choices=[("yes", "yes"), ("no", "no")],
        error_messages={"required": "Say whether it works.", "invalid_choice": "Say whether it works."},
    )
    note = forms.CharField(
        required=False,
        max_length=1000,
        label="What does not work",
        help_text="Such as the error that your system shows, and since when.",
        widget=text_area(3),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and cleaned["works"] == "no" and not cleaned["note"].strip():
            self.add_error("note", "Say what does not work, such as the error that your system shows.")
        return cleaned


class ColleagueForm(PortalForm):
    """The contact data of a colleague in charge."""

    NAME = "colleague"

    name = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give a name."},
    )
    email = forms.EmailField(required=False, label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    phone = forms.CharField(
        required=False,
        max_length=60,
        widget=forms.TextInput(attrs={"type": "tel", "autocomplete": "off"}),
    )
    job = forms.CharField(
        required=False,
        max_length=120,
        label="What they do",
        help_text="Such as “EDI operations” or “night shift”.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and not cleaned["email"] and not cleaned["phone"]:
            self.add_error("email", "Give an e-mail address or a phone number: how else could we reach them?")
        return cleaned
