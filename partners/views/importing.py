"""Bring a list of partners in: look at what it would do, then let it."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from crispy_forms.layout import Column, Row
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from as2certs.accounts.access import needs
from as2certs.accounts.forms import page_layout
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.files import BytesField
from identities.views.common import brought, posted
from partners.errors import ImportRefused, UnreadableSource
from partners.importing import csv_rows
from partners.importing.apply import Outcome, bring_in
from partners.importing.sources import Archive, Nowhere

#: So many rows with troubles, and with notes, are shown.
SHOWN = 100


class ImportForm(forms.Form):
    """A list, and the ZIP of the certificates that it names."""

    list_file = BytesField(
        label="List (CSV)",
        help_text="UTF-8, with a first row that names the columns. At most 1 MiB, some thousand rows.",
        error_messages={"required": "Choose the list."},
    )
    certificates_file = BytesField(
        required=False,
        label="Certificates (ZIP)",
        help_text="The files that the list names: public certificates, never a private key. At most 1 MiB, some "
        "hundred files; larger ones come in by the command manage.py import_inventory.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper = page_layout(
            Row(Column("list_file", css_class="col-md-6"), Column("certificates_file", css_class="col-md-6"))
        )

    @property
    def digest(self) -> str:
        """Return by what it is seen that the same files came again."""
        parts = [self.cleaned_data["list_file"], self.cleaned_data["certificates_file"] or b""]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@sensitive_variables("form")
@needs(
    "partners.add_partner",
    "partners.add_contact",
    "partners.add_partnership",
    "partners.add_partnercertificate",
)
def partner_import(request: HttpRequest) -> HttpResponse:
    form = ImportForm(posted(request), brought(request))
    outcome = None
    if request.method == "POST" and form.is_valid():
        store = request.POST.get("store") == form.digest  # what was looked at, and nothing else
        try:
            outcome = _run(form, request, store=store)
        except ImportRefused as error:
            form.add_error(
                "certificates_file" if isinstance(error, UnreadableSource) else "list_file", str(error)
            )
    if outcome is not None and outcome.stored:
        return _done(request, outcome)
    return _page(request, form, outcome)


@sensitive_variables("form")
def _run(form: ImportForm, request: HttpRequest, *, store: bool) -> Outcome:
    """Raises listing.UnreadableList, UnreadableSource, ImportConflict."""
    rows = csv_rows.read(form.cleaned_data["list_file"])
    packed = form.cleaned_data["certificates_file"]
    return bring_in(
        rows,
        Archive(io.BytesIO(packed)) if packed else Nowhere(),
        by=Actor.of(request),
        now=database_now(),
        name=str(request.FILES["list_file"])[:100],
        dry_run=not store,
    )


def _done(request: HttpRequest, outcome: Outcome) -> HttpResponse:
    messages.success(request, f"New here: {outcome.brings}.")
    target = reverse("partner-list")
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(headers={"HX-Redirect": target})
    return redirect(target)


@sensitive_variables("form")
def _page(request: HttpRequest, form: ImportForm, outcome: Outcome | None) -> HttpResponse:
    """Show the page; one with JavaScript gets the outcome alone, so that the chosen files stay in the form."""
    context: dict[str, Any] = {"form": form, "outcome": outcome, "columns": csv_rows.COLUMNS}
    if outcome is not None:
        context |= {
            "troubles": outcome.troubles[:SHOWN],
            "more_troubles": len(outcome.troubles[SHOWN:]),
            "remarks": outcome.remarks[:SHOWN],
            "more_remarks": len(outcome.remarks[SHOWN:]),
            "digest": form.digest,
        }
    if request.method == "POST" and request.headers.get("HX-Request") == "true":
        return render(request, "partners/_import_outcome.html", context)
    return render(request, "partners/partner_import.html", context)
