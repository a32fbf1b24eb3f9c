"""Django admin: the trail, read-only, and the base of every admin that changes something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest

from as2certs.audit.filters import verb_choices
from as2certs.audit.form_saving import field_values, recorded_fields, trail_noun, without_empty
from as2certs.audit.models import Chain, Entry, Subject
from as2certs.audit.recording import Actor, AuditEvent, changed_fields, record
from as2certs.clock import database_now
from as2certs.forms import SafeModelForm


class BaseAdmin(admin.ModelAdmin[Any]):
    """An admin that answers a malformed URL like an unknown object."""

    form: type[ModelForm[Any]] = SafeModelForm

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return super().get_object(request, object_id, from_field or None)


class AuditedAdmin(BaseAdmin):
    """An admin that records its changes in the trail and deletes nothing.

    Django saves an object and its related ones in one transaction, which includes the entry.
    """

    #: Fields whose values are never recorded.
    SECRET: ClassVar[tuple[str, ...]] = ()

    def subjects(self, obj: models.Model) -> Sequence[models.Model]:
        """Return further objects on whose pages the entry appears."""
        return ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        stored = type(obj)._base_manager.get(pk=obj.pk) if change else None
        form.trail_old = field_values(stored, self._names(form)) if stored else {}  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: ModelForm[Any], formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        obj = form.instance
        old, new = changed_fields(form.trail_old, field_values(obj, self._names(form)))  # type: ignore[attr-defined]
        if not change:
            self.record(request, obj, "created", new=without_empty(new))
        elif new:
            self.record(request, obj, "changed", old=old, new=new)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.record(request, obj, "deleted")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def record(self, request: HttpRequest, obj: Any, participle: str, **values: Any) -> None:
        """Record a change made here, such as "created"."""
        by = Actor.of(request, source=Entry.Source.ADMIN)
        event = AuditEvent(f"{trail_noun(obj)}.{participle}", obj, also=self.subjects(obj), **values)
        record(event, by=by, now=database_now())

    def _names(self, form: ModelForm[Any]) -> list[str]:
        return [name for name in recorded_fields(form) if name not in self.SECRET]


class ReadOnlyAdmin(BaseAdmin):
    """An admin that only shows: for history, and for what is made elsewhere."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(admin.TabularInline[Any, Any]):
    """Related rows, read-only."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SubjectInline(ReadOnlyInline):
    model = Subject
    show_change_link = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("audit.view_entry")


class VerbListFilter(admin.SimpleListFilter):
    """Filter by verb, without reading the whole trail to list the verbs."""

    title = "what"
    parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return verb_choices()

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(verb=self.value()) if self.value() else queryset


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor_name", "verb", "object_name", "source", "address", "position")
    list_filter = ("source", VerbListFilter, "at")
    search_fields = ("actor_name", "object_name", "object_uid", "verb", "reason")
    date_hierarchy = "at"
    show_full_result_count = False
    inlines = (SubjectInline,)


@admin.register(Chain)
class ChainAdmin(ReadOnlyAdmin):
    list_display = ("position", "hash", "sealed_at", "cut_position")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("audit.view_entry")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)
