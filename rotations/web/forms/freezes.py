"""The form of a freeze: days on which nothing may change."""

from __future__ import annotations

from typing import Any

from crispy_forms.layout import Column, Row
from django import forms

from as2certs.accounts.forms import TimeZoneField, form_helper
from as2certs.forms import SafeModelForm
from identities.models import Identity
from partners.models import Partner
from rotations.errors import FreezeError, WindowError
from rotations.models import Freeze
from rotations.planning import freeze_calendar

#: Common recurrence rules; others are entered as RRULE.
RULE_CHOICES = [
    ("", "only once"),
    ("FREQ=YEARLY", "every year"),
    ("FREQ=MONTHLY", "every month"),
    ("own", "by a rule (RRULE)"),
]


class FreezeForm(SafeModelForm[Freeze]):
    """Whole days in a time zone, for everything or for one identity or partner."""

    zone = TimeZoneField(label="On whose calendar")
    again = forms.ChoiceField(label="Comes back", choices=RULE_CHOICES, required=False)

    class Meta:
        model = Freeze
        fields = ["name", "identity", "partner", "first", "last", "zone", "rule"]
        widgets = {
            "first": forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
            "last": forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
            "rule": forms.TextInput(attrs={"class": "font-monospace", "spellcheck": "false"}),
        }
        labels = {"identity": "Only at our identity", "partner": "Only at the partner", "rule": "The rule"}
        help_texts = {"rule": "Such as FREQ=YEARLY;INTERVAL=2. Only for “by a rule”."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, model in (("identity", Identity), ("partner", Partner)):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = model.objects.active()
            field.empty_label = "everywhere" if name == "identity" else "–"
        rule = self.instance.rule
        self.fields["again"].initial = rule if rule in dict(RULE_CHOICES) else "own"
        self.helper = form_helper(
            "name",
            Row(Column("first", css_class="col-md-4"), Column("last", css_class="col-md-4")),
            "zone",
            Row(Column("again", css_class="col-md-6"), Column("rule", css_class="col-md-6")),
            Row(Column("identity", css_class="col-md-6"), Column("partner", css_class="col-md-6")),
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        again = cleaned.get("again") or ""
        cleaned["rule"] = (cleaned.get("rule") or "").strip().upper() if again == "own" else again
        if again == "own" and not cleaned["rule"]:
            self.add_error("rule", "Write the rule, such as FREQ=YEARLY;INTERVAL=2.")
        if cleaned.get("identity") and cleaned.get("partner"):
            self.add_error("partner", "A freeze is at one station or everywhere: leave one of the two empty.")
        if not self.errors:
            self._check(cleaned)
        return cleaned

    def _check(self, cleaned: dict[str, Any]) -> None:
        try:
            freeze_calendar.validate_freeze(
                freeze_calendar.FreezePeriod(
                    cleaned["name"], cleaned["first"], cleaned["last"], cleaned["zone"], cleaned["rule"]
                )
            )
        except FreezeError as error:
            at = "rule" if cleaned["rule"] and "rule" in str(error).lower() else "last"
            self.add_error(at, str(error))
        except WindowError as error:
            self.add_error("zone", str(error))
