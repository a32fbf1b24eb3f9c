"""Forms of users and the installation, and shared form fields."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any
from zoneinfo import available_timezones

from crispy_forms.helper import FormHelper
from crispy_forms.layout import Column, Fieldset, Layout, Row
from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from as2certs.accounts.models import Installation, User, validate_reminder_days
from as2certs.forms import SafeModelForm

#: Regions of the IANA database; other names are old or technical ones.
REGIONS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


@cache
def _zones() -> dict[str, list[tuple[str, str]]]:
    """Return region → its zones and their labels; once, as ``available_timezones`` reads hundreds of files."""
    names = sorted(available_timezones())
    return {
        region: [
            (name, name.partition("/")[2].replace("_", " ").replace("/", ", "))
            for name in names
            if name.startswith(f"{region}/")
        ]
        for region in REGIONS
    }


def zone_choices(current: str = "") -> list[tuple[str, str | list[tuple[str, str]]]]:
    """Return the choices of time zones by region, UTC first, and ``current`` even if it is an old name."""
    choices: list[tuple[str, str | list[tuple[str, str]]]] = [("UTC", "UTC")]
    choices += [(region, list(places)) for region, places in _zones().items()]
    if current and current != "UTC" and current.partition("/")[0] not in REGIONS:
        choices.insert(1, (current, current))
    return choices


@lru_cache(maxsize=256)
def _options(choices: tuple[tuple[str, str], ...], selected: str) -> SafeString:
    """Render the options of a select: (value, label) each, one of which may be selected."""
    chosen = mark_safe(" selected")
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((value, chosen if value == selected else "", label) for value, label in choices),
    )


class TimeZoneSelect(forms.Select):
    """A select of several hundred time zones, which keeps the HTML of its options.

    Django renders two templates for each option, which takes longer than the rest of a page.
    """

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        selected = self.format_value(value)[0]
        groups = []
        for key, label in self.choices:
            grouped = not isinstance(label, str)
            choices = tuple(label) if grouped else ((key, label),)
            options = _options(choices, selected if selected in dict(choices) else "")
            groups.append(format_html('<optgroup label="{}">{}</optgroup>', key, options) if grouped else options)
        attributes = {"name": name} | self.build_attrs(self.attrs, attrs)
        return format_html("<select{}>{}</select>", flatatt(attributes), format_html_join("", "{}", zip(groups)))


class TimeZoneField(forms.ChoiceField):
    """A choice of IANA time zones, by region."""

    widget = TimeZoneSelect

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", "Time zone")
        super().__init__(choices=zone_choices(), **kwargs)


def offer_current_zone(form: forms.ModelForm[Any]) -> None:
    """Add the current zone of a form's object to the choices, even if it is an old name."""
    zone = form.fields["time_zone"]
    assert isinstance(zone, TimeZoneField)
    zone.choices = zone_choices(form.instance.time_zone)


class ReminderDaysField(forms.CharField):
    """Days before a certificate expires, separated by commas: a list of integers in descending order, or None."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(day) for day in value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or None))
        except forms.ValidationError:
            return True

    def to_python(self, value: Any) -> Any:
        words = [word for word in re.split(r"[,;\s]+", str(value or "").replace("−", "-")) if word]
        for word in words:
            if not re.fullmatch(r"[+-]?\d{1,4}", word):
                raise forms.ValidationError(
                    f"“{word}” is not a whole number of days. Write the days with commas, such as 90, 60, 30, 0, -1."
                )
        days = sorted((int(word) for word in words), reverse=True)
        return days or None

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value is not None:
            validate_reminder_days(value)

    def run_validators(self, value: Any) -> None:
        """Skip the validators of a CharField: the value is a list."""


class WorkDaysField(forms.TypedMultipleChoiceField):
    """Weekdays as a list of numbers: 0 is Monday."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            choices=list(enumerate(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))),
            coerce=int,
            widget=forms.CheckboxSelectMultiple,
            error_messages={"required": "Choose at least one day on which somebody is at work."},
            **kwargs,
        )


def form_helper(*parts: Any) -> FormHelper:
    """Return a crispy helper without a form tag: the template has it, with the buttons."""
    helper = FormHelper()
    helper.form_tag = False
    helper.layout = Layout(*parts)
    return helper


class AccountForm(SafeModelForm[User]):
    """A user's own account."""

    time_zone = TimeZoneField(help_text="All times are shown in this zone, in mails too.")

    class Meta:
        model = User
        fields = ["first_name", "last_name", "email", "phone", "time_zone", "wants_reminders"]
        labels = {"email": "E-mail", "phone": "Telephone"}
        help_texts = {
            "email": "Reminders go to this address.",
            "phone": "Stands in the mails to partners of stations that you own: they call it about a change.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_current_zone(self)
        self.helper = form_helper(
            Row(Column("first_name"), Column("last_name")),
            Row(Column("email"), Column("phone")),
            "time_zone",
            "wants_reminders",
        )


def validate_work_hours(form: forms.ModelForm[Any], cleaned: dict[str, Any]) -> None:
    """Add an error if the working day does not end after it begins."""
    begins, ends = cleaned.get("works_from"), cleaned.get("works_until")
    if begins is not None and ends is not None and ends <= begins:
        form.add_error("works_until", "The working day ends before it begins. Choose a later end.")


class InstallationForm(SafeModelForm[Installation]):
    """The settings of the installation."""

    time_zone = TimeZoneField(help_text="For people who have none of their own, and for windows by default.")
    reminder_days = ReminderDaysField(
        label="Remind before the end",
        help_text="Days before a certificate ends, with commas; 0 is the day itself, -1 the day after. "
        "An identity or a partner can have its own.",
    )

    works_days = WorkDaysField(label="Work days", help_text="Windows are proposed on these days.")

    class Meta:
        model = Installation
        fields = [
            "name",
            "time_zone",
            "email",
            "phone",
            "works_from",
            "works_until",
            "works_days",
            "four_eyes_production",
            "four_eyes_test",
            "grace_days",
            "require_rehearsal",
            "lead_days",
            "reminder_days",
            "escalation_email",
            "escalation_days",
            "second_factor",
        ]
        widgets = {
            "works_from": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
            "works_until": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        }
        labels = {
            "email": "E-mail for partners",
            "phone": "Telephone for partners",
            "four_eyes_production": "Four eyes in production",
            "four_eyes_test": "Four eyes in test",
            "lead_days": "Usual notice to partners (days)",
            "grace_days": "Keep the old certificate for (days)",
            "require_rehearsal": "Rehearse first",
            "escalation_days": "From how many days before the end",
            "second_factor": "A second factor for",
        }
        help_texts = {
            "four_eyes_production": "Whoever set up or changed a rotation of a production station can’t approve it: "
            "somebody else has to, and once more when it is changed afterwards. To switch it off, confirm that it is "
            "you; another administrator has to agree, and approvers and administrators are notified by mail.",
            "four_eyes_test": "The same for rotations of test stations.",
            "require_rehearsal": "Where there is a test counterpart, a change is not scheduled before it was made and "
            "tested there. An approver can let one go on without, with a reason.",
            "escalation_email": "Told too, once a certificate gets urgent. Empty: nobody.",
            "escalation_days": "The escalation address is told from then on.",
            "second_factor": "An authenticator app or a passkey, beside the password. Whoever has to and has none sets "
            "one up right after the next login, before anything else. Single sign-on brings its own.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_current_zone(self)
        self.helper = form_helper(
            Fieldset(
                "Who we are",
                "name",
                "time_zone",
                Row(Column("email"), Column("phone")),
                Row(Column("works_from"), Column("works_until")),
                "works_days",
            ),
            Fieldset(
                "Rotations",
                "four_eyes_production",
                "four_eyes_test",
                "require_rehearsal",
                "grace_days",
                "lead_days",
            ),
            Fieldset(
                "Reminders",
                "reminder_days",
                Row(Column("escalation_email"), Column("escalation_days")),
            ),
            Fieldset("Logging in", "second_factor"),
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        validate_work_hours(self, cleaned)
        return cleaned
