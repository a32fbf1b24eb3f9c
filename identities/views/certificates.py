"""List, page and public download of certificates, of identities and partners alike."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from as2certs import pki
from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from identities.certificates.checks import check_for_station
from identities.certificates.public_files import public_file
from identities.filters import CertificateFilter
from identities.models import IdentityCertificate, IdentityService
from identities.role_status import prefetch_roles
from identities.stations import AbstractCertificate
from identities.tables import CertificateTable
from identities.views.common import download_response, render_list

DOWNLOAD_FORMATS = [
    ("pem", "PEM (.pem)", "text, with the issuers below it"),
    ("der", "DER (.cer)", "what most portals and Windows take"),
    ("p7b", "PKCS#7 (.p7b)", "certificate and issuers in one"),
    ("zip", "All of them (.zip)", "with a text of the fingerprints"),
]

#: Number of signing choices on the page of a certificate.
MAX_CHOICES = 25


@require_permissions("identities.view_identitycertificate")
def certificate_list(request: HttpRequest) -> HttpResponse:
    return render_certificate_list(request, IdentityService, CertificateFilter, CertificateTable)


def render_certificate_list(
    request: HttpRequest,
    service: Any,
    filters: type[CertificateFilter],
    table: type[CertificateTable],
) -> HttpResponse:
    """Render the list of the certificates that the model ``service`` assigns to roles."""
    model = service._meta.get_field("certificate").related_model
    rows = model.objects.light().select_related(model.HOLDER)
    return render_list(
        request,
        "identities/certificate_list.html",
        filters=filters,
        table=table,
        rows=rows.prefetch_related(prefetch_roles(service)),
        any=model.objects.exists(),
        side=model.HOLDER,
    )


@require_permissions("identities.view_identitycertificate")
def certificate_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = IdentityCertificate.objects.select_related("identity").defer("private_key__sealed")
    certificate = get_object_or_404(found.select_related("private_key"), uid=uid)
    return render(request, "identities/certificate_detail.html", certificate_context(certificate))


def certificate_context(certificate: AbstractCertificate) -> dict[str, Any]:
    """Return the context of the page of a certificate, of an identity or a partner."""
    now = database_now()
    holder = certificate.holder
    service = list(certificate.service.order_by("-role", "starts_at"))  # type: ignore[attr-defined]
    roles = sorted({row.role for row in service if row.ends_at is None}, key=list(holder.ROLES).index)
    material = certificate.material
    return {
        "certificate": certificate,
        "description": material.description,
        "sha1": pki.format_fingerprint(certificate.sha1),
        "holder": holder,
        "environment": holder.environment,
        "service": service,
        "choices": _signing_choices(certificate),
        "roles": roles,
        # Stored certificates are not refused any more when they expire.
        "findings": pki.allow_expired(check_for_station(holder, material, roles=roles or holder.ROLES, now=now)),
        "downloads": DOWNLOAD_FORMATS,
        "rotation": certificate.rotations_away.running().first(),  # type: ignore[attr-defined]
        "side": holder.side,
        "now": now,
    }


def _signing_choices(certificate: AbstractCertificate) -> list[Any]:
    """Return the partners for whom alone an identity's certificate signs or signed, the newest first."""
    if not isinstance(certificate, IdentityCertificate):
        return []
    rows = certificate.signing_choices.select_related("partnership__partner")
    return list(rows.order_by("ends_at", "-starts_at", "-id")[:MAX_CHOICES])


@require_permissions("identities.view_identitycertificate")
def certificate_export(request: HttpRequest, uid: UUID) -> HttpResponse:
    return export_view(request, get_object_or_404(IdentityCertificate.objects.select_related("identity"), uid=uid))


def export_view(request: HttpRequest, certificate: AbstractCertificate) -> HttpResponse:
    """Return the public part of a certificate in the requested format."""
    try:
        file = public_file(certificate, request.GET.get("format", "pem"))
    except KeyError as error:
        raise Http404("There is no such format: pem, der, p7b and zip are.") from error
    return download_response(file.content, file.name, file.content_type)
