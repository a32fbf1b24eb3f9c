"""List, page, download and upload of partners' certificates."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from identities.views.certificate_import import import_from_form, render_import_form
from identities.views.certificates import certificate_context, export_view, render_certificate_list
from identities.views.common import post_data, post_files
from partners.filters import PartnerCertificateFilter
from partners.forms import PartnerUploadForm
from partners.models import Partner, PartnerCertificate, PartnerService
from partners.tables import PartnerCertificateTable


@require_permissions("partners.view_partnercertificate")
def certificate_list(request: HttpRequest) -> HttpResponse:
    return render_certificate_list(request, PartnerService, PartnerCertificateFilter, PartnerCertificateTable)


@require_permissions("partners.view_partnercertificate")
def certificate_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    certificate = get_object_or_404(PartnerCertificate.objects.select_related("partner"), uid=uid)
    context = certificate_context(certificate) | {"handed_in": certificate.handed_in.all()}
    return render(request, "identities/certificate_detail.html", context)


@require_permissions("partners.view_partnercertificate")
def certificate_export(request: HttpRequest, uid: UUID) -> HttpResponse:
    return export_view(request, get_object_or_404(PartnerCertificate.objects.select_related("partner"), uid=uid))


@sensitive_variables("form")
@sensitive_post_parameters("certificate_text")
@require_permissions("partners.add_partnercertificate")
def partner_upload(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner.objects.active(), uid=uid)
    form = PartnerUploadForm(partner, post_data(request), post_files(request), now=database_now())
    done = import_from_form(request, form)
    context = {"partner": partner, "environment": partner.environment}
    return done or render_import_form(request, "partners/partner_upload.html", form, **context)
