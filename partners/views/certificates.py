"""Partners' certificates: list, page, download, and taking one in."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from as2certs.accounts.access import needs
from as2certs.clock import database_now
from identities.list_views import listed
from identities.role_status import roles_now
from identities.views.certificate_import import intake_page, taken_in
from identities.views.certificates import exported, page_of
from identities.views.common import brought, posted
from partners.filters import PartnerCertificateFilter
from partners.forms import PartnerUploadForm
from partners.models import Partner, PartnerCertificate, PartnerService
from partners.tables import PartnerCertificateTable


@needs("partners.view_partnercertificate")
def certificate_list(request: HttpRequest) -> HttpResponse:
    rows = PartnerCertificate.objects.light().select_related("partner")
    return listed(
        request,
        "identities/certificate_list.html",
        filters=PartnerCertificateFilter,
        table=PartnerCertificateTable,
        rows=rows.prefetch_related(roles_now(PartnerService)),
        any=PartnerCertificate.objects.exists(),
        side="partner",
    )


@needs("partners.view_partnercertificate")
def certificate_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    certificate = get_object_or_404(PartnerCertificate.objects.select_related("partner"), uid=uid)
    context = page_of(certificate, "partner") | {"handed_in": certificate.handed_in.all()}
    return render(request, "identities/certificate_detail.html", context)


@needs("partners.view_partnercertificate")
def certificate_export(request: HttpRequest, uid: UUID) -> HttpResponse:
    return exported(request, get_object_or_404(PartnerCertificate.objects.select_related("partner"), uid=uid))


@sensitive_variables("form")
@sensitive_post_parameters("certificate_text")
@needs("partners.add_partnercertificate")
def partner_upload(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner.objects.active(), uid=uid)
    form = PartnerUploadForm(partner, posted(request), brought(request), now=database_now())
    done = taken_in(request, form, "partner")
    context = {"partner": partner, "environment": partner.environment}
    return done or intake_page(request, "partners/partner_upload.html", form, **context)
