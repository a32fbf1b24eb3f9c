"""Partners: list, page, form, archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import current_user, require_permissions
from as2certs.clock import database_now
from as2certs.time_format import format_moment
from identities.archiving import as2_id_conflict
from identities.list_views import render_list
from identities.models import Identity
from identities.open_tasks import OpenTask, role_tasks, rotation_tasks, sort_by_urgency
from identities.role_status import (
    RoleStatus,
    assignment_history,
    prefetch_assignments,
    role_statuses,
    running_rotations,
)
from identities.views.common import (
    archive_view,
    post_data,
    render_form,
    restore_view,
    save_and_redirect,
    toggle_subscription,
    update_view,
)
from partners import signing_choices
from partners.archiving import partner_archive_obstacle
from partners.filters import PartnerFilter
from partners.forms import PartnerForm
from partners.models import Partner, PartnerService
from partners.tables import PartnerTable


@require_permissions("partners.view_partner")
def partner_list(request: HttpRequest) -> HttpResponse:
    connected_with = request.GET.get("identity", "")
    return render_list(
        request,
        "partners/partner_list.html",
        filters=PartnerFilter,
        table=PartnerTable,
        rows=Partner.objects.prefetch_related(prefetch_assignments(PartnerService)),
        any=Partner.objects.exists(),
        identity=_get_identity(connected_with) if connected_with else None,
    )


def _get_identity(uid: str) -> Identity | None:
    try:
        return Identity.objects.filter(uid=UUID(uid)).first()
    except ValueError:
        return None


@require_permissions("partners.add_partner")
def partner_create(request: HttpRequest) -> HttpResponse:
    initial = {"owners": [current_user(request).pk], "time_zone": current_user(request).time_zone}
    form = PartnerForm(post_data(request), initial=initial)
    done = save_and_redirect(request, form, "{} is set up. Next: connect it, and take in its certificate.")
    return done or render_form(request, "partners/partner_form.html", form)


@require_permissions("partners.change_partner")
def partner_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner, uid=uid)
    return update_view(request, partner, PartnerForm, "partners/partner_form.html")


@require_permissions("partners.view_partner")
def partner_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = Partner.objects.select_related("rehearsal_partner").prefetch_related(
        prefetch_assignments(PartnerService), "owners", "contacts"
    )
    partner = get_object_or_404(found, uid=uid)
    now = database_now()
    rotations = list(running_rotations(partner, "partner")[:20])
    roles = role_statuses(partner, partner.serving_now, rotations)
    partnerships = list(
        partner.partnerships.active().filter(identity__archived_at=None).select_related("identity")
    )
    needs_somebody = partner_tasks(partner, roles, rotations, connected=bool(partnerships), now=now)
    taking_part = partner.participations.filter(rotation__ended_at=None, removed_reason="")
    context: dict[str, Any] = {
        "partner": partner,
        "environment": partner.environment,
        "contacts": [contact for contact in partner.contacts.all() if not contact.suggested_by],
        "named": [contact for contact in partner.contacts.all() if contact.suggested_by],
        "standings": roles,
        "needs": [] if partner.archived_at else needs_somebody,
        "rotations": rotations,
        "participations": taking_part.select_related("rotation__identity").filter(rotation__partner=None)[
            :10
        ],
        "partnerships": partnerships,
        "signed": [
            (partnership, signing_choices.signing_history(partnership))
            for partnership in signing_choices.partnerships_with_choices(partner)
        ],
        "handed_in": partner.handed_in.select_related("certificate").defer(
            "certificate__der", "certificate__chain_pem"
        )[:5],
        "certificates": partner.certificates.light().order_by("-not_after")[:10],
        "counterpart": partner.counterpart,
        "rehearsed_here": partner.rehearsed_here,
        "history": assignment_history(partner),
        "subscribed": partner.subscribers.filter(pk=current_user(request).pk).exists(),
        "there": format_moment(now, partner.time_zone, "weekday_hour"),
        "now": now,
    }
    return render(request, "partners/partner_detail.html", context)


def partner_tasks(
    partner: Partner,
    roles: Sequence[RoleStatus],
    rotations: Sequence[Any],
    *,
    connected: bool,
    now: datetime,
) -> list[OpenTask]:
    """Return what about a partner needs somebody, the most pressing first."""
    needed = [*role_tasks("partner", partner, roles, now=now), *rotation_tasks(rotations, now=now)]
    needed += [*_submitted_certificate_tasks(partner), *_setup_tasks(partner, connected)]
    return sort_by_urgency(needed)


def _submitted_certificate_tasks(partner: Partner) -> Iterator[OpenTask]:
    for handed in partner.handed_in.pending().order_by("id"):
        yield OpenTask(
            "needs_you",
            f"A new certificate came from {handed.said_by}, and nobody has compared its fingerprint yet.",
            "Compare it",
            handed.get_absolute_url(),
            "rotations.change_rotation",
        )


def _setup_tasks(partner: Partner, connected: bool) -> Iterator[OpenTask]:
    if not connected:
        yield OpenTask(
            "needs_you",
            "It is connected with none of our identities.",
            "Connect it",
            f"{reverse('partnership-create')}?partner={partner.uid}",
            "partners.add_partnership",
        )
    known = [contact for contact in partner.contacts.all() if not contact.suggested_by]
    named = [contact for contact in partner.contacts.all() if contact.suggested_by]
    if named:
        who = named[0].name if len(named) == 1 else f"{len(named)} people"
        yield OpenTask(
            "needs_you", f"Named on their page as a contact: {who}.", "Take on or dismiss", "#named"
        )
    if bounced := [contact for contact in known if contact.bounced_at]:
        who = ", ".join(contact.name for contact in bounced[:3])
        yield OpenTask("soon", f"Mail comes back from {who}.", "See the contacts", "#contacts")
    if not any(contact.email and contact.told_new_certificates for contact in known):
        yield OpenTask(
            "soon",
            "Nobody there is told of our new certificates by mail.",
            "Add a contact",
            reverse("contact-create", args=[partner.uid]),
            "partners.add_contact",
        )


@require_POST
@require_permissions("partners.change_partner")
def partner_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    return archive_view(request, get_object_or_404(Partner, uid=uid), unless=partner_archive_obstacle)


@require_POST
@require_permissions("partners.change_partner")
def partner_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    return restore_view(request, get_object_or_404(Partner, uid=uid), unless=as2_id_conflict)


@require_POST
@require_permissions("partners.view_partner")
def partner_subscribe(request: HttpRequest, uid: UUID) -> HttpResponse:
    return toggle_subscription(request, get_object_or_404(Partner, uid=uid))
