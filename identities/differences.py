"""Texts and tasks about AS2 systems that use other certificates than the inventory says, or can't be compared.

The rows are those of ``partners.models.StationBaseline``, which ``partners.baselines`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils import timezone

from as2certs import pki
from as2certs.time_format import format_moment
from identities.models import AS2System
from identities.open_tasks import ActionLink, OpenTask
from identities.stations import AbstractCertificate

#: So many stations of one system that differ are described; the others are counted.
MAX_DESCRIBED = 50


@dataclass(frozen=True)
class Difference:
    """A station where an AS2 system uses other certificates than the inventory says, and what is known of these.

    ``rotation`` is the running one that puts one of them into service: the system is ahead of it. ``known`` are those
    that the inventory has, by SHA-256.
    """

    row: Any
    known: dict[str, AbstractCertificate]
    rotation: Any | None = None

    @property
    def text(self) -> str:
        """Return the difference in sentences."""
        return " ".join([*self.row.sentences, self.explanation]).strip()

    @property
    def explanation(self) -> str:
        """Return what the certificates are that the system uses, as a sentence; "" for those that the inventory has."""
        if self.rotation is not None:
            return (
                f"{self.rotation.new.short_name} is the new certificate of a rotation that has not made the change yet."
            )
        unknown = [sha256 for sha256 in unexpected_certificates(self.row) if sha256 not in self.known]
        if not unknown:
            return ""
        names = " and ".join(map(pki.short_fingerprint, unknown))
        return f"{names} {'is' if len(unknown) == 1 else 'are'} not in the inventory."

    @property
    def url(self) -> str:
        """Return the path of the page that adopts what the system uses."""
        return reverse("difference-adopt", args=[self.row.uid])

    def task(self, *, names_station: bool = False) -> OpenTask:
        """Return the task to decide what is right; ``names_station`` where the page is not the station's own."""
        who = f"{self.row.holder}: " if names_station else ""
        if self.rotation is not None:
            return OpenTask(
                "urgent",
                f"{who}{self.row.system} uses the new certificate {self.rotation.new.short_name} already, and its "
                "rotation has not made the change.",
                "Open the rotation",
                self.rotation.get_absolute_url(),
                "rotations.view_rotation",
            )
        return OpenTask(
            "urgent",
            f"{who}{self.row.system} uses other certificates than the inventory says.",
            "Look at it",
            differences_url(self.row.system),
            "identities.view_as2system",
            more="" if names_station else self.text,
            alternative=ActionLink("Adopt …", self.url, "rotations.approve_rotation"),
        )


def describe_differences(rows: Iterable[Any]) -> list[Difference]:
    """Return what is known of the differences of some rows, in four queries at most."""
    rows = list(rows)
    known, rotations = _known_certificates(rows), _rotations_to(rows)
    found = []
    for row in rows:
        side, holder = row.holder.side, row.holder.pk
        unexpected = unexpected_certificates(row)
        mine = {sha256: known[side, holder, sha256] for sha256 in unexpected if (side, holder, sha256) in known}
        ahead = (rotations.get((side, holder, sha256)) for sha256 in unexpected)
        found.append(Difference(row, mine, next(filter(None, ahead), None)))
    return found


def unexpected_certificates(row: Any) -> list[str]:
    """Return the SHA-256 of what a system uses at a station and the inventory does not have in use there."""
    expected = {sha256 for one in row.role_differences for sha256 in one.expected}
    found = dict.fromkeys(sha256 for one in row.role_differences for sha256 in one.found)
    return [sha256 for sha256 in found if sha256 not in expected]


def _holders(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the stations of rows by their side."""
    by_side: dict[str, list[Any]] = {}
    for row in rows:
        by_side.setdefault(row.holder.side, []).append(row.holder)
    return by_side


def _known_certificates(rows: Sequence[Any]) -> dict[tuple[str, int, str], AbstractCertificate]:
    """Return those certificates of the inventory that systems use where they differ, by station and SHA-256."""
    used = {sha256 for row in rows for one in row.role_differences for sha256 in one.found}
    return {
        (side, getattr(one, f"{side}_id"), one.sha256): one
        for side, holders in _holders(rows).items()
        for one in holders[0].certificates.model.objects.light().filter(**{f"{side}__in": holders}, sha256__in=used)
    }


def _rotations_to(rows: Sequence[Any]) -> dict[tuple[str, int, str], Any]:
    """Return the running rotations of stations by station and SHA-256 of their new certificate."""
    return {
        (side, getattr(one, f"{side}_id"), one.new.sha256): one
        for side, holders in _holders(rows).items()
        for one in holders[0]
        .rotations.model.objects.running()
        .filter(**{f"{side}__in": holders, f"new_{side}_certificate__isnull": False})
        .select_related(f"new_{side}_certificate")
        .defer(f"new_{side}_certificate__der", f"new_{side}_certificate__chain_pem")
    }


def station_tasks(station: Any) -> list[OpenTask]:
    """Return the tasks about AS2 systems that differ at a station, or can't be compared there."""
    rows = list(station.baselines.exclude(differs_since=None, failing_since=None).with_holders()[:MAX_DESCRIBED])
    tasks = [one.task() for one in describe_differences(row for row in rows if row.differs_since)]
    return [*tasks, *(failure_task(row.system, row.failing_since) for row in rows if row.state == "failed")]


def system_differs_task(system: AS2System, count: int) -> OpenTask:
    """Return the task to look at several stations at which a system differs."""
    text = f"{system} uses other certificates than the inventory says at {count} stations."
    return OpenTask("urgent", text, "Look at them", differences_url(system), "identities.view_as2system")


def failure_task(system: AS2System, since: Any) -> OpenTask:
    """Return the task to find out why comparing a system has failed since a moment (UTC)."""
    moment = format_moment(since, timezone.get_current_timezone_name(), "short")
    text = f"Comparing {system} with the inventory has failed since {moment}."
    return OpenTask("soon", text, "Look at it", differences_url(system), "identities.view_as2system")


def differences_url(system: AS2System) -> str:
    """Return the path of the part of a system's page that lists its differences."""
    return f"{system.get_absolute_url()}#baseline"
