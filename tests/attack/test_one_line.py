"""Nothing that breaks a line, hides, or turns the direction of reading gets into a field of one line."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from django import forms
from django.contrib import admin
from django.http import QueryDict
from django.test import RequestFactory
from django.urls import get_resolver

from as2certs.accounts.forms import AccountForm
from as2certs.accounts.models import User
from as2certs.forms import OneLineFieldsMixin, is_one_line_field, validate_one_line
from as2certs.one_line import first_refused, is_one_line, to_one_line
from partners.forms import ContactForm
from partners.importing.csv_rows import read_list
from rotations.web.portal.forms import ColleagueForm
from tests.people import make_person

PROJECT = ("as2certs.", "identities.", "partners.", "rotations.")


def subclasses(of: type) -> Iterator[type]:
    child: type
    for child in of.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_form_refuses_such_characters_in_its_fields_of_one_line() -> None:
    assert get_resolver().url_patterns  # imports all views
    ours = [form for form in subclasses(forms.BaseForm) if form.__module__.startswith(PROJECT)]
    assert len(ours) > 40
    assert [form for form in ours if not issubclass(form, OneLineFieldsMixin)] == []


@pytest.mark.django_db
def test_so_does_every_form_of_django_admin() -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root", "root@example.com")
    found = []
    for model_admin in admin.site._registry.values():
        if model_admin.has_add_permission(request) or model_admin.has_change_permission(request):
            for row in (None, model_admin.model()):
                form = model_admin.get_form(request, row)
                found.append(form)
                assert issubclass(form, OneLineFieldsMixin), model_admin
    assert found


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\t", "\x1b", "\x85", "\u2028", "\u202e", "\u2066", "\u200f", "\u200b"]
)
def test_such_characters_are_refused_and_named(character: str) -> None:
    text = f"North{character}wind"
    assert not is_one_line(text)
    assert first_refused(text) == f"U+{ord(character):04X}"
    assert to_one_line(text) == "North wind"
    with pytest.raises(forms.ValidationError, match="in one line"):
        validate_one_line(text)


@pytest.mark.parametrize("text", ["Müller & Söhne", "北風", "می‌خواهم", "क्‍ष", "a\u00a0b", "🙂"])
def test_what_people_write_is_kept(text: str) -> None:
    assert is_one_line(text)


def test_a_field_that_is_added_later_counts_and_a_text_area_may_have_lines() -> None:
    class Late(OneLineFieldsMixin, forms.Form):
        pass

    text = "a\u202eb\nc"
    form = Late({"line": text, "lines": text, "secret": text, "mail": '"a\x01"@example.com'})
    form.fields["line"] = forms.CharField()
    form.fields["lines"] = forms.CharField(widget=forms.Textarea)
    form.fields["secret"] = forms.CharField(widget=forms.PasswordInput)
    form.fields["mail"] = forms.EmailField()
    assert set(form.errors) == {"line", "mail"}
    assert not is_one_line_field(form.fields["lines"])


@pytest.mark.django_db
def test_a_name_with_such_a_character_is_refused_at_its_field_on_pages_portal_and_import() -> None:
    evil = "Nora\u202emoc.live"
    account = AccountForm({"first_name": evil, "last_name": "A\nBcc: x@example.com"}, instance=make_person("nora"))
    assert {"first_name", "last_name"} <= set(account.errors)
    assert "U+202E" in str(ContactForm({"name": evil, "email": "nora@example.com"}).errors["name"])
    assert "U+202E" in str(ColleagueForm(QueryDict(urlencode({"name": evil}))).errors["name"])
    (problem,) = read_list(f"name,as2_id\n{evil},N\n".encode()).errors
    assert "The column name holds a character" in problem.text
