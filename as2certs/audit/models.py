"""The trail: who did what, on what, when, from where, with the old and the new value."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.conf import settings
from django.db import models

from as2certs.time_format import format_utc

#: What stands for the hash of an entry before the first.
GENESIS_HASH = "0" * 64


class TrailIsAppendOnly(TypeError):
    """Raised when something tries to change or delete a row of the trail."""


M = TypeVar("M", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[M]):
    """Rows that are added, and neither changed nor deleted; the database's triggers say the same."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never changed.")

    def delete(self) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class AppendOnly(models.Model):
    """A row that is added, and neither changed nor deleted."""

    class Meta:
        abstract = True
        # Django's own ways to a row, such as from a related one, take this manager.
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TrailIsAppendOnly("A row of the trail is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class EntryQuerySet(AppendOnlyQuerySet["Entry"]):
    def about(self, obj: models.Model) -> EntryQuerySet:
        """Entries that name this object, newest first."""
        kind, uid = object_reference(obj)
        return self.filter(subjects__kind=kind, subjects__uid=uid).order_by("-id")

    def sealed(self) -> EntryQuerySet:
        """Entries that are chained, in the order of the chain."""
        return self.filter(position__isnull=False).order_by("position")

    def unsealed(self) -> EntryQuerySet:
        """Entries that wait to be chained, in the order in which they were begun."""
        return self.filter(position=None).order_by("id")


class Entry(AppendOnly):
    """One thing that happened. Names are frozen in the row, so that it can be read after everything else is gone.

    Seconds after it was added, an entry is sealed: it gets its place in the chain (chain.py, sealing.py).
    """

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

    # The seal. Set once, by raw SQL: nothing else may touch a row.
    position = models.BigIntegerField("place in the chain", null=True, blank=True)
    sealed_at = models.DateTimeField(null=True, blank=True)
    previous = models.CharField("hash of the one before", max_length=64, blank=True, default="")
    hash = models.CharField(max_length=64, blank=True, default="")
    signature = models.CharField(max_length=64, blank=True, default="")
    signed_with = models.CharField("fingerprint of the signing key", max_length=16, blank=True, default="")

    objects = EntryQuerySet.as_manager()

    class Meta(AppendOnly.Meta):
        ordering = ["-id"]
        verbose_name = "entry of the trail"
        verbose_name_plural = "trail"
        permissions = [("export_entry", "Can take the trail out as a file")]
        # Both indexes hold only what they are asked for, so that adding an entry touches one of them.
        indexes = [
            models.Index(fields=["id"], name="audit_entry_unsealed", condition=models.Q(position=None))
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["position"],
                name="audit_entry_position",
                condition=models.Q(position__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{format_utc(self.at, seconds=True)} {self.actor_name}: {self.verb} {self.object_name}"


class Subject(AppendOnly):
    """An object that an entry speaks of: the one acted on, and those on whose pages it should be seen too."""

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="subjects")
    kind = models.CharField(max_length=80)
    uid = models.CharField(max_length=40)

    objects = AppendOnlyQuerySet["Subject"].as_manager()

    class Meta(AppendOnly.Meta):
        constraints = [models.UniqueConstraint(fields=["kind", "uid", "entry"], name="audit_subject_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"


class Chain(models.Model):
    """How far the trail is sealed: one row, signed, so that removing the newest entries is seen too.

    Whoever seals holds it locked; whoever adds an entry never touches it.
    """

    position = models.BigIntegerField("newest place", default=0)
    hash = models.CharField("its hash", max_length=64, default=GENESIS_HASH)
    cut_position = models.BigIntegerField("removed up to", default=0)
    cut_hash = models.CharField("hash of the last one removed", max_length=64, default=GENESIS_HASH)
    sealed_at = models.DateTimeField(null=True, blank=True)
    signature = models.CharField(max_length=64, blank=True, default="")
    signed_with = models.CharField("fingerprint of the signing key", max_length=16, blank=True, default="")

    class Meta:
        verbose_name = "head of the trail"
        verbose_name_plural = "head of the trail"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="audit_one_chain")]

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"


def object_reference(obj: models.Model) -> tuple[str, str]:
    """Return the kind (``app.model``) and the public id under which the trail knows an object."""
    uid = getattr(obj, "uid", None)
    return obj._meta.label_lower, str(obj.pk if uid is None else uid)
