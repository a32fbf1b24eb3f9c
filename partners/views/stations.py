"""List, page and form of partners."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from as2certs.accounts.access import current_user, require_permissions
from as2certs.time_format import format_moment
from identities.archiving import as2_id_conflict
from identities.differences import station_tasks
from identities.models import Identity
from identities.open_tasks import sort_by_urgency
from identities.role_status import prefetch_assignments
from identities.tls_certificates import station_tls_tasks
from identities.views.common import (
    archive_views,
    post_data,
    render_form,
    render_list,
    save_and_redirect,
    subscription_view,
    update_view,
)
from identities.views.stations import station_context
from partners import signing_choices
from partners.archiving import partner_archive_obstacle
from partners.filters import PartnerFilter
from partners.forms import PartnerForm
from partners.models import Partner, PartnerService
from partners.open_tasks import partner_tasks
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
    context = station_context(request, partner)
    statuses, rotations, now = context["statuses"], context["rotations"], context["now"]
    partnerships = list(partner.partnerships.active().filter(identity__archived_at=None).select_related("identity"))
    tasks = partner_tasks(partner, statuses, rotations, connected=bool(partnerships), now=now)
    tasks = sort_by_urgency([*station_tasks(partner), *station_tls_tasks(partner, now), *tasks])
    participations = partner.participations.filter(rotation__ended_at=None, rotation__partner=None, removed_reason="")
    context |= {
        "contacts": [contact for contact in partner.contacts.all() if not contact.suggested_by],
        "suggested": [contact for contact in partner.contacts.all() if contact.suggested_by],
        "needs": [] if partner.archived_at else tasks,
        "participations": participations.select_related("rotation__identity").prefetch_related("steps")[:10],
        "partnerships": partnerships,
        "signing_histories": [
            (partnership, signing_choices.signing_history(partnership))
            for partnership in signing_choices.partnerships_with_choices(partner)
        ],
        "handed_in": partner.handed_in.select_related("certificate").defer(
            "certificate__der", "certificate__chain_pem"
        )[:5],
        "local_time": format_moment(now, partner.time_zone, "weekday_hour"),
    }
    return render(request, "partners/partner_detail.html", context)


partner_archive, partner_restore = archive_views(
    Partner,
    "partners.change_partner",
    archive_obstacle=partner_archive_obstacle,
    restore_obstacle=as2_id_conflict,
)

partner_subscribe = subscription_view(Partner, "partners.view_partner")
