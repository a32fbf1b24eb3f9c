"""List, page, form and connection check of AS2 systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from identities.archiving import no_obstacle, system_archive_obstacle
from identities.connectors import CONNECTOR_CHOICES, CONNECTORS, ConnectorError, connector_for
from identities.connectors.base import BaselineWriter
from identities.differences import MAX_DESCRIBED, describe_differences
from identities.filters import SystemFilter
from identities.forms import SystemForm
from identities.models import AS2System, IdentityService
from identities.role_status import prefetch_assignments
from identities.tables import SystemTable
from identities.views.common import (
    archive_views,
    post_data,
    render_form,
    render_list,
    save_and_redirect,
    update_view,
)


@dataclass(frozen=True)
class Fact:
    """An entry of a system's configuration on its page: its label, and how a value is written.

    `otherwise` is shown where there is no value; without both, the entry is left out.
    """

    name: str
    label: str
    otherwise: str = ""
    write: Callable[[str], str] = str
    is_code: bool = True


def _last_part(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]


_NO_READ_BACK = "none: what is stored is not shown to be in use"
#: The entries of each kind's configuration that the page shows.
FACTS: Mapping[str, tuple[Fact, ...]] = {
    "directory": (
        Fact("folder", "Folder"),
        Fact("hook", "Hook", "none"),
        Fact("read_back", "Read-back", _NO_READ_BACK),
        Fact("file_names", "Files"),
    ),
    "openas2": (
        Fact("keystore", "Keystore"),
        Fact("keystore_seconds", "Keystore is read", write="every {} s".format, is_code=False),
        Fact("partnerships", "Partnerships"),
        Fact("partnerships_seconds", "Partnerships are read", write="every {} s".format, is_code=False),
        Fact("rest_url", "Read-back", _NO_READ_BACK),
    ),
    "webhook": (Fact("webhook_url", "Webhook"), Fact("webhook_key_id", "Key ID")),
    "aws_transfer": (Fact("aws_region", "Region"), Fact("aws_profiles", "Profiles")),
    "azure_logic": (
        Fact("azure_account", "Integration account", write=_last_part),
        Fact("azure_vault", "Key vault", "none: only certificates of partners can be changed", _last_part),
        Fact("azure_agreements", "Agreements", "all of the account"),
    ),
    "files_com": (
        Fact("files_com_site", "Site", write="{}.files.com".format),
        Fact("files_com_records", "Stations and partners", "found by their AS2 ID"),
    ),
}

#: So many stations that could not be compared are listed on the page of a system.
MAX_FAILURES = 10


@require_permissions("identities.view_as2system")
def system_list(request: HttpRequest) -> HttpResponse:
    return render_list(
        request,
        "identities/system_list.html",
        filters=SystemFilter,
        table=SystemTable,
        rows=AS2System.objects.all(),
        any=AS2System.objects.exists(),
    )


@require_permissions("identities.add_as2system")
def system_create(request: HttpRequest) -> HttpResponse:
    form = SystemForm(post_data(request))
    done = save_and_redirect(request, form, "{} is set up.")
    return done or render_form(request, "identities/system_form.html", form)


@require_permissions("identities.change_as2system")
def system_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    system = get_object_or_404(AS2System, uid=uid)
    return update_view(request, system, SystemForm, "identities/system_form.html")


@require_permissions("identities.view_as2system")
def system_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    system = get_object_or_404(AS2System, uid=uid)
    context = {
        "system": system,
        "environment": system.environment,
        "connector": _describe_connector(system),
        "identities": system.identities.active().prefetch_related(prefetch_assignments(IdentityService))[:50],
        "baseline": _describe_baselines(system),
        "now": database_now(),
    }
    return render(request, "identities/system_detail.html", context)


def _describe_connector(system: AS2System) -> dict[str, Any]:
    """Return what a system's connector is called, its configuration, and how changes and the baseline get there."""
    kind = CONNECTORS.get(system.connector)
    return {
        "label": dict(CONNECTOR_CHOICES).get(system.connector, system.connector),
        "facts": list(_describe_config(system)),
        "summary": kind.summary if kind else "",
        "writes_baseline": kind is not None and issubclass(kind, BaselineWriter),
    }


def _describe_config(system: AS2System) -> Iterator[tuple[str, str, bool]]:
    """Yield label and text of what a system's configuration says, and whether the text is code."""
    for fact in FACTS.get(system.connector, ()):
        value = system.config.get(fact.name) or ""
        if isinstance(value, str):
            value = [line for line in value.splitlines() if line.strip()]
        listed = ", ".join(value) if isinstance(value, list) else str(value)
        if listed:
            yield fact.label, fact.write(listed), fact.is_code
        elif fact.otherwise:
            yield fact.label, fact.otherwise, False


def _describe_baselines(system: AS2System) -> dict[str, Any]:
    """Return how many stations match, differ and can't be compared, and what is known of the latter two."""
    rows = system.baselines.with_holders()
    differing, failing = rows.filter(differs_since__isnull=False), rows.filter(failing_since__isnull=False)
    counts = rows.aggregate(
        matching=Count("pk", filter=Q(differs_since=None, failing_since=None, compared_at__isnull=False)),
        differing=Count("pk", filter=Q(differs_since__isnull=False)),
        failing=Count("pk", filter=Q(failing_since__isnull=False)),
        new=Count("pk", filter=Q(compared_at=None, failing_since=None)),
        oldest=Min("compared_at"),
        failing_since=Min("failing_since"),
    )
    return counts | {
        "differences": describe_differences(differing.order_by("pk")[:MAX_DESCRIBED]) if counts["differing"] else [],
        "failures": failing.order_by("failing_since", "pk")[:MAX_FAILURES] if counts["failing"] else [],
    }


@require_POST
@require_permissions("identities.change_as2system")
def system_check(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Check whether the connector reaches the system, and store the result."""
    system = get_object_or_404(AS2System, uid=uid)
    try:
        connector = connector_for(system)
        result = connector.check() if connector else None
    except ConnectorError as error:
        _save_check(request, system, ok=False, message=str(error))
    else:
        if result is None:
            messages.info(request, "A person applies its changes: there is nothing to check from here.")
        else:
            _save_check(request, system, ok=result.outcome.good, message=result.message)
    return redirect(system)


def _save_check(request: HttpRequest, system: AS2System, *, ok: bool, message: str) -> None:
    now = database_now()
    event = AuditEvent("system.checked", system, new={"works": ok, "said": message})
    with transaction.atomic():
        AS2System.objects.filter(pk=system.pk).update(checked_at=now, check_ok=ok, check_message=message)
        record(event, by=Actor.of(request), now=now)
    if ok:
        messages.success(request, message)
    else:
        messages.error(request, "The check failed. What was found stands below.")


system_archive, system_restore = archive_views(
    AS2System,
    "identities.change_as2system",
    archive_obstacle=system_archive_obstacle,
    restore_obstacle=no_obstacle,
)
