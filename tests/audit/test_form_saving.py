"""A form is saved together with its entry in the trail, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from as2certs.audit import form_saving
from as2certs.audit.models import Entry
from identities.forms import IdentityForm
from identities.models import AS2System, Identity
from tests.inventory import BY, NOW, make_identity

pytestmark = pytest.mark.django_db


def form(identity: Identity | None = None, **fields: Any) -> IdentityForm:
    typed = {"name": "ACME", "as2_id": "ACME-PROD", "environment": "production", **fields}
    filled = IdentityForm(typed, instance=identity)
    assert filled.is_valid(), filled.errors
    return filled


def test_a_new_object_is_recorded_without_its_empty_fields() -> None:
    identity = form_saving.save_form(form(url="https://as2.example.com"), by=BY, now=NOW)
    entry = Entry.objects.get()
    assert (entry.verb, entry.at, entry.actor_name) == ("identity.created", NOW, "Alice")
    assert entry.new == {
        "name": "ACME",
        "as2_id": "ACME-PROD",
        "environment": "production",
        "url": "https://as2.example.com",
    }
    assert list(Entry.objects.about(identity)) == [entry]


def test_related_objects_are_recorded_by_name() -> None:
    identity = make_identity(name="ACME")
    system = AS2System.objects.create(name="OpenAS2")
    owner = get_user_model().objects.create_user("olga", first_name="Olga")
    form_saving.save_form(form(identity, as2_system=system.pk, owners=[owner.pk]), by=BY, now=NOW)
    entry = Entry.objects.get()
    assert entry.old == {"as2_system": None, "owners": []}
    assert entry.new == {"as2_system": "OpenAS2", "owners": ["Olga"]}


def test_the_old_value_is_the_stored_one_even_if_somebody_else_changed_it_meanwhile() -> None:
    identity = make_identity(name="First")
    filled = form(identity, name="Third")
    Identity.objects.update(name="Second")
    form_saving.save_form(filled, by=BY, now=NOW)
    assert Entry.objects.get().old == {"name": "Second"}


def test_an_unchanged_form_is_not_recorded() -> None:
    form_saving.save_form(form(make_identity(name="ACME")), by=BY, now=NOW)
    assert not Entry.objects.exists()


def test_without_its_entry_nothing_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(form_saving, "record", full)
    with pytest.raises(OSError, match="the disk is full"):
        form_saving.save_form(form(), by=BY, now=NOW)
    assert not Identity.objects.exists()
