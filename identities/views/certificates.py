"""Our certificates: list, page, and the public part as a file."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from as2certs import pki
from as2certs.accounts.access import needs
from as2certs.clock import database_now
from identities.certificate_import import inspect
from identities.filters import CertificateFilter
from identities.list_views import listed
from identities.models import IdentityCertificate, IdentityService
from identities.public_files import public_file
from identities.role_status import roles_now
from identities.stations import AbstractCertificate
from identities.tables import CertificateTable
from identities.views.common import download

PUBLIC_LABELS = [
    ("pem", "PEM (.pem)", "text, with the issuers below it"),
    ("der", "DER (.cer)", "what most portals and Windows take"),
    ("p7b", "PKCS#7 (.p7b)", "certificate and issuers in one"),
    ("zip", "All of them (.zip)", "with a text of the fingerprints"),
]

#: So many partners for whom a certificate signed alone are shown.
CHOICES = 25


@needs("identities.view_identitycertificate")
def certificate_list(request: HttpRequest) -> HttpResponse:
    rows = IdentityCertificate.objects.light().select_related("identity")
    return listed(
        request,
        "identities/certificate_list.html",
        filters=CertificateFilter,
        table=CertificateTable,
        rows=rows.prefetch_related(roles_now(IdentityService)),
        any=IdentityCertificate.objects.exists(),
        side="identity",
    )


@needs("identities.view_identitycertificate")
def certificate_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = IdentityCertificate.objects.select_related("identity").defer("private_key__sealed")
    certificate = get_object_or_404(found.select_related("private_key"), uid=uid)
    return render(request, "identities/certificate_detail.html", page_of(certificate, "identity"))


def page_of(certificate: AbstractCertificate, side: str) -> dict[str, Any]:
    """Return what the page of a certificate of either side shows. ``side`` is "identity" or "partner"."""
    now = database_now()
    holder = certificate.holder
    service = list(certificate.service.order_by("-role", "starts_at"))  # type: ignore[attr-defined]
    roles = sorted({row.role for row in service if row.ends_at is None}, key=list(holder.ROLES).index)
    material = pki.Material(certificate.certificate, certificate.chain, None, "stored")
    return {
        "certificate": certificate,
        "description": certificate.description,
        "sha1": pki.format_fingerprint(certificate.sha1),
        "holder": holder,
        "environment": holder.environment,
        "service": service,
        "choices": _choices(certificate),
        "roles": roles,
        "findings": inspect(holder, material, roles=roles or holder.ROLES, now=now),
        "downloads": PUBLIC_LABELS,
        "rotation": certificate.rotations_away.running().first(),  # type: ignore[attr-defined]
        "side": side,
        "now": now,
    }


def _choices(certificate: AbstractCertificate) -> list[Any]:
    """Return for which partners alone one of our certificates signs, or signed, the newest first."""
    if not isinstance(certificate, IdentityCertificate):
        return []
    rows = certificate.signing_choices.select_related("partnership__partner")
    return list(rows.order_by("ends_at", "-starts_at", "-id")[:CHOICES])


@needs("identities.view_identitycertificate")
def certificate_export(request: HttpRequest, uid: UUID) -> HttpResponse:
    return exported(
        request, get_object_or_404(IdentityCertificate.objects.select_related("identity"), uid=uid)
    )


def exported(request: HttpRequest, certificate: AbstractCertificate) -> HttpResponse:
    """Answer with the public part of a certificate in the format asked for."""
    try:
        file = public_file(certificate, request.GET.get("format", "pem"))
    except KeyError as error:
        raise Http404("There is no such format: pem, der, p7b and zip are.") from error
    return download(file.content, file.name, file.content_type)
