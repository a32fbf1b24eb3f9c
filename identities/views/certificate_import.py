"""Import certificates: upload one, generate one, or take in a CA's response to a CSR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from as2certs.time_format import format_utc
from identities.certificates.forms import (
    CAResponseForm,
    CertificateImportForm,
    GenerateForm,
    IdentityUploadForm,
)
from identities.certificates.generation import RequestState, import_ca_response, request_certificate
from identities.certificates.single_import import CertificateImportResult
from identities.models import CertificateRequest, Identity
from identities.open_tasks import rotation_create_url
from identities.role_assignments import certificates_by_role
from identities.stations import AbstractStation
from identities.views.common import download_response, post_data, post_files, redirect_to, render_form


@sensitive_variables("form")
@sensitive_post_parameters("certificate_text", "password")
@require_permissions("identities.add_identitycertificate")
def identity_upload(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = _get_active_identity(uid)
    now = database_now()
    form = IdentityUploadForm(identity, post_data(request), post_files(request), now=now)
    done = import_from_form(request, form)
    context = {"identity": identity, "environment": identity.environment}
    return done or render_import_form(request, "identities/identity_upload.html", form, **context)


def _get_active_identity(uid: UUID) -> Identity:
    return get_object_or_404(Identity.objects.active(), uid=uid)


@sensitive_variables("form")
def import_from_form(request: HttpRequest, form: CertificateImportForm) -> HttpResponse | None:
    """Import the certificate of a valid form and redirect; return None if the form is to be rendered."""
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        result = form.save(by=Actor.of(request))
    except DomainError as error:
        form.add_error(None, str(error))
        return None
    for note in form.notes:
        messages.info(request, f"{note.reason} {note.advice}")
    return redirect_after_import(request, form.holder, result)


def render_import_form(
    request: HttpRequest, template: str, form: CertificateImportForm, **context: Any
) -> HttpResponse:
    """Render an upload form.

    If only its warnings have to be confirmed, htmx gets these alone, so that the form keeps the chosen files.
    """
    if form.must_confirm and request.headers.get("HX-Request") == "true":
        response = render(request, "identities/_import_warnings.html", {"form": form})
        response["HX-Retarget"] = "#import-warnings"
        response["HX-Reselect"] = "#import-warnings"
        response["HX-Reswap"] = "outerHTML"
        return response
    return render_form(request, template, form, **context)


def redirect_after_import(
    request: HttpRequest, holder: AbstractStation, result: CertificateImportResult
) -> HttpResponse:
    """Show the result of an import, and redirect to the certificate, or to a new rotation if a role needs one."""
    now = database_now()
    target = result.certificate.get_absolute_url()
    name = result.certificate.short_name
    used = " and ".join(result.assigned)
    if result.assigned and result.certificate.has_expired(now):
        messages.warning(
            request,
            f"{name} has expired. It is recorded as in use to {used}: start the rotation to its successor.",
        )
    elif result.assigned:
        messages.success(request, f"{name} is taken in and used at once to {used}.")
    elif not result.waiting:
        messages.info(request, f"{name} was here already, and serves {holder}.")
    if result.waiting:
        old, roles = _certificate_to_replace(holder, result.waiting)
        target = rotation_create_url(holder, old=old, new=result.certificate, roles=roles)
        messages.info(request, _waiting_text(holder, result.certificate, old, roles))
    return redirect_to(request, target)


def _waiting_text(holder: AbstractStation, new: Any, old: Any, roles: Sequence[str]) -> str:
    """Return why a certificate is not in use yet, and what to do; ``old`` is None if none is in use."""
    if old is None:
        return (
            f"{new.short_name} is taken in and not in use: it is valid from {format_utc(new.not_before)}. Set up the "
            "rotation that puts it into service then."
        )
    return (
        f"{new.short_name} is taken in. {holder} uses {old.short_name} to {' and '.join(roles)} now, so nothing is "
        "overwritten: set up the rotation that puts the new one in its place."
    )


def _certificate_to_replace(holder: AbstractStation, waiting: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the certificate in the first of the waiting roles, and all waiting roles that it is used in.

    Without one it is None, with the waiting roles that have no certificate.
    """
    in_use = certificates_by_role(holder)
    serving = in_use[waiting[0]]
    if not serving:
        return None, [role for role in waiting if not in_use[role]]
    return serving[-1], [role for role in waiting if serving[-1] in in_use[role]]


@require_permissions("identities.add_certificaterequest")
def identity_generate(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = _get_active_identity(uid)
    form = GenerateForm(identity, post_data(request))
    if request.method == "POST" and form.is_valid():
        key = form.requested_key(form.cleaned_data["roles"])
        return redirect(request_certificate(identity, key, by=Actor.of(request), now=database_now()))
    context = {"identity": identity, "environment": identity.environment}
    return render_form(request, "identities/identity_generate.html", form, **context)


@require_permissions("identities.view_certificaterequest")
def request_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show the progress of a request; the page polls the changing part each second."""
    key_request = _get_request(uid)
    partial = request.headers.get("HX-Request") == "true"
    template = "identities/_request_progress.html" if partial else "identities/request_detail.html"
    return render(request, template, _request_context(key_request) | {"form": CAResponseForm()})


def _get_request(uid: UUID) -> CertificateRequest:
    found = CertificateRequest.objects.select_related("identity", "certificate", "created_by")
    return get_object_or_404(found.defer("certificate__der", "certificate__chain_pem"), uid=uid)


def _request_context(key_request: CertificateRequest) -> dict[str, Any]:
    context: dict[str, Any] = {
        "key_request": key_request,
        "identity": key_request.identity,
        "environment": key_request.identity.environment,
        "hash_label": key_request.hash_name.replace("sha", "SHA-"),
        "busy": key_request.state in (RequestState.QUEUED, RequestState.WORKING),
        "now": database_now(),
    }
    if key_request.certificate:
        new, in_use = key_request.certificate, certificates_by_role(key_request.identity)
        context["assigned"] = [role for role, certificates in in_use.items() if new in certificates]
        waiting = [role for role in key_request.roles if new not in in_use[role]]
        if waiting and not new.has_expired(context["now"]):
            old, roles = _certificate_to_replace(key_request.identity, waiting)
            context |= {"waiting": roles, "old": old}
            context["rotation_url"] = rotation_create_url(key_request.identity, old=old, new=new, roles=roles)
    return context


@require_permissions("identities.view_certificaterequest")
def request_csr(request: HttpRequest, uid: UUID) -> HttpResponse:
    key_request = _get_request(uid)
    if not key_request.csr_pem:
        raise Http404("There is no CSR here.")
    return download_response(key_request.csr_pem.encode(), f"{key_request.identity}.csr", "application/pkcs10")


@require_permissions("identities.change_certificaterequest")
def request_answer(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Import the CA's response; the form is on the page of the request."""
    key_request = _get_request(uid)
    if request.method != "POST":
        return redirect(key_request)
    form = CAResponseForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            result = import_ca_response(key_request, form.answer, by=Actor.of(request), now=database_now())
        except DomainError as error:
            form.add_error(form.source, str(error))
        else:
            for finding in result.findings:
                messages.info(request, f"{finding.reason} {finding.advice}")
            return redirect_after_import(request, key_request.identity, result)
    return render(request, "identities/request_detail.html", _request_context(key_request) | {"form": form})
