"""Django admin for rotations. State and history are read-only; actions call the same functions as the pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from as2certs.audit.admin import AuditedAdmin, ReadOnlyAdmin, ReadOnlyInline
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.errors import RotationError
from rotations.lifecycle import endings, step_actions
from rotations.models import (
    HandedIn,
    Heartbeat,
    Letter,
    Link,
    Notice,
    Participant,
    Rotation,
    Slot,
    SlotAnswer,
    Step,
)

CERTIFICATE_FIELDS = tuple(
    f"{which}_{side}_certificate" for which in ("old", "new") for side in ("identity", "partner")
)
BYTE_COLUMNS = tuple(f"{name}__{column}" for name in CERTIFICATE_FIELDS for column in ("der", "chain_pem"))

#: Fields of a rotation that are never edited.
READ_ONLY_FIELDS = (
    "uid",
    "identity",
    "partner",
    "roles",
    *CERTIFICATE_FIELDS,
    "request",
    "state",
    "window_start",
    "window_end",
    "window_zone",
    "window_local",
    "freeze_reason",
    "grace_days",
    "nudge_after",
    "nudge_before",
    "rehearsal",
    "rehearsal_waived",
    "set_up_by",
    "set_up_at",
    "approved_by",
    "approved_at",
    "withdrawn_at",
    "withdrawn_because",
    "applied_at",
    "ended_at",
)


class _RotationPermissions:
    """Mixin: whoever can view rotations can view what belongs to them."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("rotations.view_rotation")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rotations.view_rotation")


class ParticipantInline(_RotationPermissions, ReadOnlyInline):
    model = Participant
    fields = (
        "partner",
        "announced_at",
        "evidence",
        "agreed_at",
        "declined_at",
        "confirmed_at",
        "confirmed_with",
        "waived_reason",
        "removed_reason",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("partner")


class StepInline(_RotationPermissions, ReadOnlyInline):
    model = Step
    fields = (
        "position",
        "title",
        "who",
        "automatic",
        "state",
        "blocked",
        "due_at",
        "done_at",
        "done_by",
        "error",
    )


def _admin_actor(request: HttpRequest) -> Actor:
    return Actor.of(request, source=Entry.Source.ADMIN)


def _apply_to_each(request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any], object], done: str) -> None:
    """Apply a function to each row, and show the errors and how often it succeeded."""
    count = 0
    for row in rows:
        try:
            act(row)
        except RotationError as error:
            messages.error(request, f"{row}: {error}")
        else:
            count += 1
    if count:
        messages.success(request, f"{done}: {count}.")


@admin.register(Rotation)
class RotationAdmin(AuditedAdmin):
    """Only the notes can be edited; drafts and decisions are made on the pages."""

    fields = (*READ_ONLY_FIELDS, "notes")
    readonly_fields = READ_ONLY_FIELDS
    list_display = ("__str__", "side", "state", "window_start", "goes_on", "set_up_by", "applied_at")
    list_filter = (
        "state",
        ("partner", admin.EmptyFieldListFilter),
        "identity__environment",
        "partner__environment",
        "window_start",
    )
    list_select_related = ("identity", "partner", "set_up_by")
    search_fields = (
        "uid",
        "identity__name",
        "identity__as2_id",
        "partner__name",
        "partner__as2_id",
        *(f"{name}__sha256" for name in CERTIFICATE_FIELDS),
        "notes",
    )
    date_hierarchy = "window_start"
    show_full_result_count = False
    inlines = (ParticipantInline, StepInline)
    actions = ("cancel_selected",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        attention = Rotation.objects.needing_attention(database_now()).filter(pk=models.OuterRef("pk"))
        rows = super().get_queryset(request).select_related(*CERTIFICATE_FIELDS)
        return rows.defer(*BYTE_COLUMNS).annotate(attention=models.Exists(attention))

    def subjects(self, obj: models.Model) -> Sequence[models.Model]:
        assert isinstance(obj, Rotation)
        return (obj.holder,)

    @admin.display(boolean=True, description="goes on by itself")
    def goes_on(self, obj: Any) -> bool:
        return not obj.attention

    @admin.action(description="Cancel the selected rotations", permissions=["change"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Rotation]) -> None:
        def cancel(rotation: Rotation) -> None:
            endings.cancel(rotation, reason="cancelled in Django admin", by=_admin_actor(request), now=database_now())

        _apply_to_each(request, queryset, cancel, "Cancelled")


@admin.register(Participant)
class ParticipantAdmin(_RotationPermissions, ReadOnlyAdmin):
    list_display = (
        "partner",
        "rotation",
        "announced_at",
        "opened_at",
        "evidence",
        "agreed_at",
        "confirmed_at",
        "declined_at",
        "works",
        "waived_reason",
        "removed_reason",
    )
    list_filter = (
        "evidence",
        "works",
        "rotation__state",
        ("removed_reason", admin.EmptyFieldListFilter),
        ("declined_at", admin.EmptyFieldListFilter),
        ("proposed_at", admin.EmptyFieldListFilter),
        "announced_at",
        "confirmed_at",
    )
    list_select_related = ("partner", "rotation__identity", "rotation__partner")
    search_fields = ("uid", "partner__name", "partner__as2_id", "rotation__uid", "fingerprint", "note")
    show_full_result_count = False


@admin.register(Step)
class StepAdmin(_RotationPermissions, ReadOnlyAdmin):
    list_display = ("title", "rotation", "who", "state", "automatic", "due_at", "attempts", "done_at", "late")
    list_filter = ("state", "act", "who", "automatic", "late", "due_at")
    list_select_related = ("rotation__identity", "rotation__partner")
    search_fields = ("uid", "title", "error", "note", "rotation__uid", "rotation__identity__name")
    date_hierarchy = "due_at"
    show_full_result_count = False
    actions = ("retry_selected",)

    @admin.action(description="Try the selected failed steps again", permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Step]) -> None:
        _apply_to_each(
            request,
            queryset,
            lambda step: step_actions.retry_step(step, by=_admin_actor(request), now=database_now()),
            "Tried again",
        )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rotations.change_rotation")


@admin.register(Notice)
class NoticeAdmin(_RotationPermissions, ReadOnlyAdmin):
    list_display = ("recipient", "threshold", "identity_certificate", "partner_certificate", "at")
    list_filter = ("threshold", "at")
    search_fields = ("recipient", "identity_certificate__sha256", "partner_certificate__sha256")
    date_hierarchy = "at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        sides = ("identity_certificate", "partner_certificate")
        columns = [f"{side}__{column}" for side in sides for column in ("der", "chain_pem")]
        return super().get_queryset(request).select_related(*sides).defer(*columns)


@admin.register(HandedIn)
class HandedInAdmin(_RotationPermissions, ReadOnlyAdmin):
    """Submitted certificates; they are accepted or refused on their page, with an entry in the trail."""

    list_display = (
        "partner",
        "certificate",
        "submitted_by",
        "at",
        "accepted",
        "settled_by",
        "spoke_with",
        "channel",
    )
    list_filter = ("accepted", ("settled_at", admin.EmptyFieldListFilter), "channel", "at")
    list_select_related = ("partner", "certificate", "rotation__identity", "rotation__partner")
    search_fields = (
        "uid",
        "partner__name",
        "partner__as2_id",
        "certificate__sha256",
        "submitted_by",
        "spoke_with",
        "note",
    )
    date_hierarchy = "at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("certificate__der", "certificate__chain_pem")


@admin.register(Link)
class LinkAdmin(_RotationPermissions, ReadOnlyAdmin):
    """Links to partners' pages, without the hash of the token."""

    fields = (
        "uid",
        "partner",
        "participant",
        "contact",
        "whose",
        "confirmed",
        "created_at",
        "created_by",
        "expires_at",
        "revoked_at",
        "revoked_by",
        "fetched_at",
        "opened_at",
        "last_address",
    )
    list_display = (
        "partner",
        "whose",
        "created_at",
        "created_by",
        "fetched_at",
        "opened_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = (
        "confirmed",
        ("participant", admin.EmptyFieldListFilter),
        ("revoked_at", admin.EmptyFieldListFilter),
        ("fetched_at", admin.EmptyFieldListFilter),
        ("opened_at", admin.EmptyFieldListFilter),
        "created_at",
    )
    list_select_related = ("partner",)
    search_fields = ("uid", "partner__name", "partner__as2_id", "whose", "created_by", "last_address")
    date_hierarchy = "created_at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("token_hash")


@admin.register(Letter)
class LetterAdmin(_RotationPermissions, ReadOnlyAdmin):
    """Mails to partners, without their text or encrypted parts."""

    list_display = ("kind", "partner", "message", "rung", "at")
    list_filter = ("kind", "message__state", ("message__bounced_at", admin.EmptyFieldListFilter), "at")
    list_select_related = ("partner", "message")
    search_fields = ("uid", "partner__name", "partner__as2_id", "message__to_address", "message__subject")
    date_hierarchy = "at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows.defer("message__sealed", "message__text", "message__html")


class SlotAnswerInline(_RotationPermissions, ReadOnlyInline):
    model = SlotAnswer
    fields = ("participant", "can", "at")
    show_change_link = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        related = (
            "participant__partner",
            "participant__rotation__identity",
            "participant__rotation__partner",
        )
        return super().get_queryset(request).select_related(*related)


@admin.register(Slot)
class SlotAdmin(_RotationPermissions, ReadOnlyAdmin):
    list_display = ("rotation", "start", "end", "zone")
    list_filter = ("rotation__state", "start")
    list_select_related = ("rotation__identity", "rotation__partner")
    search_fields = ("uid", "rotation__uid", "rotation__identity__name", "rotation__partner__name")
    date_hierarchy = "start"
    show_full_result_count = False
    inlines = (SlotAnswerInline,)


@admin.register(Heartbeat)
class HeartbeatAdmin(_RotationPermissions, ReadOnlyAdmin):
    list_display = ("name", "at")
    search_fields = ("name",)
    list_filter = ("at",)
