"""The audit trail: who did what, on which object, when and from where, with the old and the new value."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.conf import settings
from django.db import models

from as2certs.time_format import format_utc

#: The ``previous`` hash of the first entry.
GENESIS_HASH = "0" * 64


class TrailIsAppendOnly(TypeError):
    """Raised when something tries to change or delete a row of the trail."""


M = TypeVar("M", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[M]):
    """Rows that can be added, but not changed or deleted; triggers of the database enforce the same."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never changed.")

    def delete(self) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class AppendOnly(models.Model):
    """A row that can be added, but not changed or deleted."""

    class Meta:
        abstract = True
        # Also for Django's own queries, such as those of related objects.
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TrailIsAppendOnly("A row of the trail is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TrailIsAppendOnly("A row of the trail is never deleted.")


class EntryQuerySet(AppendOnlyQuerySet["Entry"]):
    def about(self, obj: models.Model) -> EntryQuerySet:
        """Return the entries about this object, newest first."""
        kind, uid = object_reference(obj)
        return self.filter(subjects__kind=kind, subjects__uid=uid).order_by("-id")

    def sealed(self) -> EntryQuerySet:
        """Return the entries that are sealed, in the order of the chain."""
        return self.filter(position__isnull=False).order_by("position")

    def unsealed(self) -> EntryQuerySet:
        """Return the entries that are not sealed yet, in the order of their creation."""
        return self.filter(position=None).order_by("id")


class Entry(AppendOnly):
    """One event. It holds the names of actor and object, so that it can be read after these are gone.

    Seconds after its commit an entry is sealed: it gets its place in the hash chain (chain.py, sealing.py).
    """

    class Source(models.TextChoices):
        WEB = "web", "browser"
        ADMIN = "admin", "Django admin"
        TASK = "task", "the application itself"
        COMMAND = "command", "command line"
        PORTAL = "portal", "partner's page"

    at = models.DateTimeField("when", db_index=True)
    verb = models.CharField("what", max_length=64, db_index=True)
    # No database constraint: the row must survive the deletion of the account unchanged.
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

    # The seal, set once, by raw SQL: the ORM refuses to change a row.
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
        # Both indexes are partial, so that adding an entry updates one of them only.
        indexes = [models.Index(fields=["id"], name="audit_entry_unsealed", condition=models.Q(position=None))]
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
    """An object that an entry concerns: the one acted on, or another one on whose page it appears."""

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="subjects")
    kind = models.CharField(max_length=80)
    uid = models.CharField(max_length=40)

    objects = AppendOnlyQuerySet["Subject"].as_manager()

    class Meta(AppendOnly.Meta):
        constraints = [models.UniqueConstraint(fields=["kind", "uid", "entry"], name="audit_subject_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"


class Chain(models.Model):
    """The head of the hash chain: one row, signed, so that removing the newest entries is detected too.

    It is locked while entries are sealed, and never touched when entries are added.
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
    """Return the kind (``app.model``) and the public id by which the trail refers to an object."""
    uid = getattr(obj, "uid", None)
    return obj._meta.label_lower, str(obj.pk if uid is None else uid)
