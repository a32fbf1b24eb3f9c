"""Import a list of partners in two steps: a trial run shows the result, a second request stores it."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from crispy_forms.layout import Column, Row
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from as2certs.accounts.access import require_permissions
from as2certs.accounts.forms import form_helper
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.forms import SafeForm
from identities.certificates.file_fields import FileContentField
from identities.views.common import post_data, post_files, redirect_to
from partners.errors import ImportRefused, UnreadableSource
from partners.importing import csv_rows
from partners.importing.apply import ImportOptions, InventoryImportResult, import_list
from partners.importing.sources import NoSource, ZipSource

#: Number of errors, and of remarks, on the page.
MAX_SHOWN = 100


class InventoryImportForm(SafeForm):
    """Upload a list, and a ZIP with the certificate files that it names."""

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
        """Return the digest by which the second request shows that it has the same files."""
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
    result = None
    if request.method == "POST" and form.is_valid():
        store = request.POST.get("store") == form.digest  # only the files of the trial run
        try:
            result = _import_list(form, request, store=store)
        except ImportRefused as error:
            form.add_error("certificates_file" if isinstance(error, UnreadableSource) else "list_file", str(error))
    if result is not None and result.stored:
        return _redirect_to_list(request, result)
    return _render_page(request, form, result)


@sensitive_variables("form")
def _import_list(form: InventoryImportForm, request: HttpRequest, *, store: bool) -> InventoryImportResult:
    """Import the list of a valid form. Raises ImportRefused."""
    rows = csv_rows.read_list(form.cleaned_data["list_file"])
    packed = form.cleaned_data["certificates_file"]
    source = ZipSource(io.BytesIO(packed)) if packed else NoSource()
    options = ImportOptions(str(request.FILES["list_file"])[:100], dry_run=not store)
    return import_list(rows, source, options, by=Actor.of(request), now=database_now())


def _redirect_to_list(request: HttpRequest, result: InventoryImportResult) -> HttpResponse:
    messages.success(request, f"New here: {result.new_objects}.")
    return redirect_to(request, reverse("partner-list"))


@sensitive_variables("form")
def _render_page(request: HttpRequest, form: InventoryImportForm, result: InventoryImportResult | None) -> HttpResponse:
    """Render the page; htmx gets the result alone, so that the form keeps the chosen files."""
    context: dict[str, Any] = {"form": form, "result": result, "columns": csv_rows.COLUMNS}
    if result is not None:
        context |= {
            "errors": result.errors[:MAX_SHOWN],
            "more_errors": len(result.errors[MAX_SHOWN:]),
            "remarks": result.remarks[:MAX_SHOWN],
            "more_remarks": len(result.remarks[MAX_SHOWN:]),
            "digest": form.digest,
        }
    if request.method == "POST" and request.headers.get("HX-Request") == "true":
        return render(request, "partners/_import_result.html", context)
    return render(request, "partners/partner_import.html", context)
