"""A certificate of ours comes in: uploaded, generated here, or as a CA's answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities import generation, role_assignments
from identities.certificate_import import CertificateImportResult, import_certificate
from identities.certificate_import_forms import (
    CAResponseForm,
    CertificateImportForm,
    GenerateForm,
    IdentityUploadForm,
)
from identities.models import CertificateRequest, Identity
from identities.open_tasks import rotation_create_url
from identities.stations import AbstractStation
from identities.views.common import download_response, post_data, post_files, render_form

RequestState = CertificateRequest.State


@sensitive_variables("form")
@sensitive_post_parameters("certificate_text", "password")
@require_permissions("identities.add_identitycertificate")
def identity_upload(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = _get_active_identity(uid)
    now = database_now()
    form = IdentityUploadForm(identity, post_data(request), post_files(request), now=now)
    done = import_from_form(request, form, "identity")
    context = {"identity": identity, "environment": identity.environment}
    return done or render_import_form(request, "identities/identity_upload.html", form, **context)


def _get_active_identity(uid: UUID) -> Identity:
    return get_object_or_404(Identity.objects.active(), uid=uid)


@sensitive_variables("form")
def import_from_form(request: HttpRequest, form: CertificateImportForm, side: str) -> HttpResponse | None:
    """Take in what a valid form holds and go on from there; None when the form is to be shown (again)."""
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        intake = import_certificate(
            form.holder, form.material, roles=form.cleaned_data["roles"], by=Actor.of(request), now=form.now
        )
    except DomainError as error:
        form.add_error(None, str(error))
        return None
    return redirect_after_import(request, form.holder, intake, side)


def render_import_form(
    request: HttpRequest, template: str, form: CertificateImportForm, **context: Any
) -> HttpResponse:
    """Show an upload form.

    When only its warnings want a tick, a page with JavaScript gets these alone: the chosen files stay in the form.
    """
    if form.must_confirm and request.headers.get("HX-Request") == "true":
        response = render(request, "identities/_intake_warnings.html", {"form": form})
        response["HX-Retarget"] = "#intake-warnings"
        response["HX-Reselect"] = "#intake-warnings"
        response["HX-Reswap"] = "outerHTML"
        return response
    return render_form(request, template, form, **context)


def redirect_after_import(
    request: HttpRequest, holder: AbstractStation, intake: CertificateImportResult, side: str
) -> HttpResponse:
    """Say what became of a certificate, and lead to the rotation where a role waits for one."""
    target = intake.certificate.get_absolute_url()
    name = intake.certificate.short_name
    if intake.serves:
        messages.success(request, f"{name} is taken in and used at once to {' and '.join(intake.serves)}.")
    elif not intake.waits:
        messages.info(request, f"{name} was here already, and serves {holder}.")
    if intake.waits:
        old, roles = _certificate_to_replace(holder, intake.waits)
        target = rotation_create_url(side, holder, old=old, new=intake.certificate, roles=roles)
        messages.info(
            request,
            f"{name} is taken in. {holder} uses {old.short_name} to {' and '.join(roles)} now, so nothing is "
            "overwritten: set up the rotation that puts the new one in its place.",
        )
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(headers={"HX-Redirect": target})
    return HttpResponseRedirect(target)


def _certificate_to_replace(holder: AbstractStation, waits: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Return the certificate that is to be replaced first, and the waiting roles that it serves."""
    held = role_assignments.certificates_by_role(holder)
    old = held[waits[0]][-1]
    return old, [role for role in waits if old in held[role]]


@require_permissions("identities.add_certificaterequest")
def identity_generate(request: HttpRequest, uid: UUID) -> HttpResponse:
    identity = _get_active_identity(uid)
    form = GenerateForm(identity, post_data(request))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        asked = generation.request_certificate(
            identity,
            kind=given["kind"],
            bits=given["bits"],
            hash_name=given["hash_name"],
            days=given["days"],
            subject=form.subject,
            roles=given["roles"],
            by=Actor.of(request),
            now=database_now(),
        )
        return redirect(asked)
    context = {"identity": identity, "environment": identity.environment}
    return render_form(request, "identities/identity_generate.html", form, **context)


@require_permissions("identities.view_certificaterequest")
def request_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show how far a key has come; the page asks each second for the part that changes."""
    asked = _get_request(uid)
    partial = request.headers.get("HX-Request") == "true"
    template = "identities/_request_progress.html" if partial else "identities/request_detail.html"
    return render(request, template, _request_context(asked) | {"form": CAResponseForm()})


def _get_request(uid: UUID) -> CertificateRequest:
    found = CertificateRequest.objects.select_related("identity", "certificate", "created_by")
    return get_object_or_404(found.defer("certificate__der", "certificate__chain_pem"), uid=uid)


def _request_context(asked: CertificateRequest) -> dict[str, Any]:
    context: dict[str, Any] = {
        "asked": asked,
        "identity": asked.identity,
        "environment": asked.identity.environment,
        "hash_label": asked.hash_name.replace("sha", "SHA-"),
        "busy": asked.state in (RequestState.QUEUED, RequestState.WORKING),
        "now": database_now(),
    }
    if asked.certificate:
        held = role_assignments.certificates_by_role(asked.identity)
        context["serves"] = [role for role, now in held.items() if asked.certificate in now]
        waits = tuple(role for role in asked.roles if held[role] and asked.certificate not in held[role])
        if waits and asked.certificate.not_after > context["now"]:
            old, roles = _certificate_to_replace(asked.identity, waits)
            context |= {"waits": roles, "old": old}
            context["rotation_url"] = rotation_create_url(
                "identity", asked.identity, old=old, new=asked.certificate, roles=roles
            )
    return context


@require_permissions("identities.view_certificaterequest")
def request_csr(request: HttpRequest, uid: UUID) -> HttpResponse:
    asked = _get_request(uid)
    if not asked.csr_pem:
        raise Http404("There is no CSR here.")
    return download_response(asked.csr_pem.encode(), f"{asked.identity}.csr", "application/pkcs10")


@require_permissions("identities.change_certificaterequest")
def request_answer(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Take in the CA's answer; shown at the request's page."""
    asked = _get_request(uid)
    if request.method != "POST":
        return redirect(asked)
    form = CAResponseForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            intake = generation.import_ca_response(
                asked, form.answer, by=Actor.of(request), now=database_now()
            )
        except DomainError as error:
            form.add_error(form.came_in, str(error))
        else:
            return redirect_after_import(request, asked.identity, intake, "identity")
    return render(request, "identities/request_detail.html", _request_context(asked) | {"form": form})
