"""The trail: who did what, on what, when, from where, with the old and the new value."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models


class TrailIsAppendOnly(TypeError):
    """Raised when something tries to change or delete a row of the trail."""


class EntryQuerySet(models.QuerySet["Entry"]):
    def about(self, obj: models.Model) -> EntryQuerySet:
        """Entries that name this object, newest first."""
        kind, uid = identify(obj)
        return self.filter(subjects__kind=kind, subjects__uid=uid).order_by("-id")

    def update(self, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never changed.")

    def delete(self) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class Entry(models.Model):
    """One thing that happened. Names are frozen in the row, so that it can be read after everything else is gone."""

    class Source(models.TextChoices):
        WEB = "web", "browser"
        ADMIN = "admin", "Django admin"
        TASK = "task", "the application itself"
        COMMAND = "command", "command line"
        PORTAL = "portal", "partner's page"

    at = models.DateTimeField("when", db_index=True)
    verb = models.CharField("what", max_length=64, db_index=True)
    # No database constraint: the row must outlive the person's account without being touched.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    actor_name = models.CharField("who", max_length=200)
    source = models.CharField("through", max_length=10, choices=Source)
    address = models.GenericIPAddressField("from address", null=True, blank=True)
    object_kind = models.CharField(max_length=80)
    object_uid = models.CharField(max_length=40)
    object_name = models.CharField("on what", max_length=300)
    old = models.JSONField(default=dict, blank=True)
    new = models.JSONField(default=dict, blank=True)
    reason = models.TextField(blank=True)
    key = models.CharField(
        max_length=120,
        null=True,
        blank=True,
        unique=True,
        help_text="Set where something must be in the trail once only, such as a step of a rotation.",
    )

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "entry of the trail"
        verbose_name_plural = "trail"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}Z {self.actor_name}: {self.verb} {self.object_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TrailIsAppendOnly("A row of the trail is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class Subject(models.Model):
    """An object that an entry speaks of: the one acted on, and those on whose pages it should be seen too."""

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="subjects")
    kind = models.CharField(max_length=80)
    uid = models.CharField(max_length=40)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "uid", "entry"], name="audit_subject_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"


def identify(obj: models.Model) -> tuple[str, str]:
    """Return the kind (``app.model``) and the public id under which the trail knows an object."""
    return obj._meta.label_lower, str(getattr(obj, "uid", obj.pk))
