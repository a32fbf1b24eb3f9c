"""Users, and the settings of the installation."""

from __future__ import annotations

from datetime import datetime, time
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models

#: Days before a certificate expires on which reminders are sent; 0 is the day itself, -1 the day after.
DEFAULT_REMINDER_DAYS = (90, 60, 30, 14, 7, 3, 1, 0, -1, -2, -3, -4, -5, -6, -7)


#: Weekdays on which people work; 0 is Monday.
WORK_DAYS = (0, 1, 2, 3, 4)


def default_work_days() -> list[int]:
    return list(WORK_DAYS)


def validate_work_days(days: object) -> None:
    """Require a non-empty list of distinct weekdays, 0 (Monday) to 6 (Sunday)."""
    if not isinstance(days, list) or not days or set(days) - set(range(7)) or len(set(days)) != len(days):
        raise ValidationError("Work days are days of the week, each once, from 0 (Monday) to 6 (Sunday).")


def default_reminder_days() -> list[int]:
    return list(DEFAULT_REMINDER_DAYS)


@cache
def _time_zones() -> frozenset[str]:
    """Return the names of all zones. Cached, because reading them takes milliseconds."""
    return frozenset(available_timezones())


def validate_time_zone(name: str) -> None:
    """Require the name of an IANA time zone."""
    if name not in _time_zones():
        raise ValidationError(
            "“%(name)s” is not a time zone. Use a name such as Europe/Berlin or America/Chicago.",
            params={"name": name},
        )


def validate_reminder_days(days: object) -> None:
    """Require a list of distinct integers from -30 (days after) to 400 (days before)."""
    if not isinstance(days, list) or any(not isinstance(d, int) or isinstance(d, bool) for d in days):
        raise ValidationError("Reminders are whole numbers of days, such as 90, 60, 30.")
    outside = [d for d in days if not -30 <= d <= 400]
    if outside:
        raise ValidationError(
            "%(day)s is out of range: reminders go out between 400 days before and 30 days after (-30).",
            params={"day": outside[0]},
        )
    if len(set(days)) != len(days):
        raise ValidationError("The same day stands twice in the list of reminders.")


class User(AbstractUser):
    """A user of the application."""

    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Times are shown in this zone.",
    )
    phone = models.CharField(
        max_length=60,
        blank=True,
        help_text="Partners call it about a change; it stands in the mails to them.",
    )
    wants_reminders = models.BooleanField(
        "reminders by mail",
        default=True,
        help_text="Of certificates that come to their end, and each morning of partners that do not answer.",
    )
    must_change_password = models.BooleanField(
        default=False, help_text="Asked to choose an own password at the next login."
    )

    def __str__(self) -> str:
        return self.get_full_name() or self.username


class Installation(models.Model):
    """The settings of the installation: one row."""

    class SecondFactor(models.TextChoices):
        OPTIONAL = "optional", "whoever wants to"
        REQUIRED = "required", "everybody who logs in with a password"

    name = models.CharField("our name", max_length=120, default="Our company", help_text="As partners know us.")
    email = models.EmailField(
        "e-mail",
        blank=True,
        help_text="Where partners reach us about certificates, when nobody else is named.",
    )
    phone = models.CharField(max_length=60, blank=True, help_text="Where partners call us, when nobody else is named.")
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    four_eyes_production = models.BooleanField(
        "four eyes in production",
        default=False,
        help_text="Whoever set up or changed a rotation of a production station can't approve it.",
    )
    four_eyes_test = models.BooleanField(
        "four eyes in test",
        default=False,
        help_text="Whoever set up or changed a rotation of a test station can't approve it.",
    )
    # A rotation that was set up before this moment stays bound by four eyes: see ``four_eyes_setting``.
    four_eyes_production_until = models.DateTimeField(null=True, blank=True, editable=False)
    four_eyes_test_until = models.DateTimeField(null=True, blank=True, editable=False)
    four_eyes_off_asked = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text="Where somebody asked to switch four eyes off; another administrator has to agree.",
    )
    four_eyes_off_asked_by = models.ForeignKey(
        User, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    four_eyes_off_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    reminder_days = models.JSONField(
        default=default_reminder_days,
        validators=[validate_reminder_days],
        help_text="Days before the end; 0 is the day itself, negative numbers are days after.",
    )
    escalation_email = models.EmailField(
        "escalation address", blank=True, help_text="Told too, once a certificate gets urgent."
    )
    escalation_days = models.PositiveSmallIntegerField(
        "escalate from", default=7, help_text="Days before the end from which the escalation address is told."
    )
    grace_days = models.PositiveSmallIntegerField(
        "keep the old certificate for",
        default=14,
        help_text="Days after the change in which the old certificate is still accepted: longer than the time-out "
        "of asynchronous MDNs plus all retries.",
    )
    works_from = models.TimeField("at work from", default=time(8), help_text="On the clock of our time zone.")
    works_until = models.TimeField("at work until", default=time(17))
    works_days = models.JSONField("work days", default=default_work_days, validators=[validate_work_days])
    lead_days = models.PositiveSmallIntegerField(
        "usual notice",
        default=14,
        help_text="Days that a partner needs between the announcement and the window.",
    )
    require_rehearsal = models.BooleanField(
        "rehearse first",
        default=False,
        help_text="Where there is a test counterpart, a change is not scheduled before it was made there.",
    )

    second_factor = models.CharField(
        max_length=8,
        choices=SecondFactor.choices,
        default=SecondFactor.OPTIONAL,
        help_text="Who has to show more than a password.",
    )

    class Meta:
        verbose_name = "installation"
        verbose_name_plural = "installation"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="accounts_one_installation")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.pk = 1
        super().save(*args, **kwargs)

    @classmethod
    def current(cls) -> Installation:
        """Return the one row, or an unsaved one with the defaults."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)

    def asks_for_four_eyes(self, *, is_test: bool, since: datetime | None = None) -> bool:
        """Return whether a second person has to approve, in the test or the production environment.

        ``since`` (UTC) is when the rotation was set up: four eyes that held at any time since then still bind it.
        """
        if self.four_eyes_test if is_test else self.four_eyes_production:
            return True
        until = self.four_eyes_test_until if is_test else self.four_eyes_production_until
        return since is not None and until is not None and since <= until
