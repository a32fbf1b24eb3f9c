"""Save a form and record what it changed, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from django.db import models, transaction
from django.forms import ModelForm

from as2certs.audit.recording import Actor, AuditEvent, changed_fields, record

M = TypeVar("M", bound=models.Model)


def trail_noun(obj: models.Model) -> str:
    """Return the noun with which the verbs about an object begin: "identity", "partner"."""
    return getattr(obj, "TRAIL_NOUN", obj._meta.model_name or "")


def field_values(obj: models.Model, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of some fields for the trail: related objects by their names."""
    return {name: _field_value(obj, name) for name in names}


def _field_value(obj: models.Model, name: str) -> Any:
    field = obj._meta.get_field(name)
    if isinstance(field, models.BinaryField):
        # Sealed: what the trail needs is that it was changed, and by whom.
        sealed = getattr(obj, name)
        return f"sealed, {sha256(bytes(sealed)).hexdigest()[:8]}" if sealed else None
    if field.many_to_many:
        return sorted(str(other) for other in getattr(obj, name).all()) if obj.pk else []
    if field.is_relation:
        other = getattr(obj, name)
        return None if other is None else str(other)
    return getattr(obj, name)


def recorded_fields(form: ModelForm[Any]) -> list[str]:
    """Return the fields of a form to record: its ``TRAIL_FIELDS``, or those that are the model's own."""
    columns = {field.name for field in form._meta.model._meta.get_fields()}
    return getattr(form, "TRAIL_FIELDS", None) or [name for name in form.fields if name in columns]


def without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a new object that say something."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def save_form(
    form: ModelForm[M], *, by: Actor, now: datetime, also: Iterable[models.Model] = (), reason: str = ""
) -> M:
    """Save a valid form's object and record it as ``<noun>.created`` or ``<noun>.changed`` with old and new values.

    A form that changes nothing leaves no entry.
    """
    names = recorded_fields(form)
    with transaction.atomic():
        stored = None if form.instance._state.adding else form._meta.model._base_manager.get(pk=form.instance.pk)
        old = field_values(stored, names) if stored else {}
        obj = form.save()
        before, after = changed_fields(old, field_values(obj, names))
        if stored is None:
            after = without_empty(after)
            record(
                AuditEvent(f"{trail_noun(obj)}.created", obj, also=also, new=after, reason=reason),
                by=by,
                now=now,
            )
        elif after:
            record(
                AuditEvent(f"{trail_noun(obj)}.changed", obj, also=also, old=before, new=after, reason=reason),
                by=by,
                now=now,
            )
    return obj
