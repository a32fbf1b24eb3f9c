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

from as2certs.accounts.access import require_permissions
from as2certs.accounts.forms import form_helper
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.files import FileContentField
from identities.views.common import post_data, post_files
from partners.errors import ImportRefused, UnreadableSource
from partners.importing import csv_rows
from partners.importing.apply import InventoryImportResult, import_list
from partners.importing.sources import NoSource, ZipSource

#: So many rows with troubles, and with notes, are shown.
MAX_SHOWN = 100


class InventoryImportForm(forms.Form):
    """A list, and the ZIP of the certificates that it names."""

    list_file = FileContentField(
        label="List (CSV)",
        help_text="UTF-8, with a first row that names the columns. At most 1 MiB, some thousand rows.",
        error_messages={"required": "Choose the list."},
    )
    certificates_file = FileContentField(
        required=False,
        label="Certificates (ZIP)",
        help_text="The files that the list names: public certificates, never a private key. At most 1 MiB, some "
        "hundred files; larger ones come in by the command manage.py import_inventory.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper = form_helper(
            Row(Column("list_file", css_class="col-md-6"), Column("certificates_file", css_class="col-md-6"))
        )

    @property
    def digest(self) -> str:
        """Return by what it is seen that the same files came again."""
        parts = [self.cleaned_data["list_file"], self.cleaned_data["certificates_file"] or b""]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@sensitive_variables("form")
@require_permissions(
    "partners.add_partner",
    "partners.add_contact",
    "partners.add_partnership",
    "partners.add_partnercertificate",
)
def partner_import(request: HttpRequest) -> HttpResponse:
    form = InventoryImportForm(post_data(request), post_files(request))
    outcome = None
    if request.method == "POST" and form.is_valid():
        store = request.POST.get("store") == form.digest  # what was looked at, and nothing else
        try:
            outcome = _import_list(form, request, store=store)
        except ImportRefused as error:
            form.add_error(
                "certificates_file" if isinstance(error, UnreadableSource) else "list_file", str(error)
            )
    if outcome is not None and outcome.stored:
        return _redirect_to_list(request, outcome)
    return _render_page(request, form, outcome)


@sensitive_variables("form")
def _import_list(form: InventoryImportForm, request: HttpRequest, *, store: bool) -> InventoryImportResult:
    """Raises listing.UnreadableList, UnreadableSource, ImportConflict."""
    rows = csv_rows.read_list(form.cleaned_data["list_file"])
    packed = form.cleaned_data["certificates_file"]
    return import_list(
        rows,
        ZipSource(io.BytesIO(packed)) if packed else NoSource(),
        by=Actor.of(request),
        now=database_now(),
        name=str(request.FILES["list_file"])[:100],
        dry_run=not store,
    )


def _redirect_to_list(request: HttpRequest, outcome: InventoryImportResult) -> HttpResponse:
    messages.success(request, f"New here: {outcome.brings}.")
    target = reverse("partner-list")
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(headers={"HX-Redirect": target})
    return redirect(target)


@sensitive_variables("form")
def _render_page(
    request: HttpRequest, form: InventoryImportForm, outcome: InventoryImportResult | None
) -> HttpResponse:
    """Show the page; one with JavaScript gets the outcome alone, so that the chosen files stay in the form."""
    context: dict[str, Any] = {"form": form, "outcome": outcome, "columns": csv_rows.COLUMNS}
    if outcome is not None:
        context |= {
            "troubles": outcome.troubles[:MAX_SHOWN],
            "more_troubles": len(outcome.troubles[MAX_SHOWN:]),
            "remarks": outcome.remarks[:MAX_SHOWN],
            "more_remarks": len(outcome.remarks[MAX_SHOWN:]),
            "digest": form.digest,
        }
    if request.method == "POST" and request.headers.get("HX-Request") == "true":
        return render(request, "partners/_import_outcome.html", context)
    return render(request, "partners/partner_import.html", context)
