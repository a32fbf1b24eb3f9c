"""Export a private key: with the permission, after reauthentication, and for a recorded reason."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from as2certs import pki
from as2certs.accounts.access import require_permissions
from as2certs.accounts.reauthentication import require_confirmation
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.certificates.forms import PrivateKeyExportForm
from identities.certificates.key_export import PRIVATE_KEY_FORMATS, export_private_key
from identities.certificates.public_files import file_stem
from identities.models import IdentityCertificate
from identities.views.common import download_response, post_data, render_form


@sensitive_variables("form", "data")
@sensitive_post_parameters("password", "password_again")
@never_cache
@require_permissions("identities.export_privatekey")
@require_confirmation
def certificate_export_private(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = IdentityCertificate.objects.select_related("identity", "private_key").defer("private_key__sealed")
    certificate = get_object_or_404(found, uid=uid)
    if certificate.private_key is None:
        messages.error(request, "The private key of this certificate is not kept here.")
        return redirect(certificate)
    form = PrivateKeyExportForm(post_data(request))
    if request.method == "POST" and form.is_valid():
        try:
            data = _export(request, certificate, form)
        except pki.PkiError as error:
            form.add_error("password", str(error))
        else:
            suffix, content_type = PRIVATE_KEY_FORMATS[form.cleaned_data["form"]][1:]
            return download_response(data, f"{file_stem(certificate)}.{suffix}", content_type)
    context = {"certificate": certificate, "environment": certificate.identity.environment}
    return render_form(request, "identities/certificate_export_private.html", form, **context)


def _export(request: HttpRequest, certificate: IdentityCertificate, form: PrivateKeyExportForm) -> bytes:
    data = form.cleaned_data
    return export_private_key(
        certificate,
        form=data["form"],
        password=data["password"],
        reason=data["reason"],
        by=Actor.of(request),
        now=database_now(),
    )
