"""Rotations for real processes to carry out: set up, approved and confirmed inside the installation under test."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db.models import F

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.site.report_files import request_report
from identities.capabilities import Support
from identities.certificates import private_keys
from identities.connectors import ConnectorChange, InstallableCertificate, connector_for
from identities.models import AS2System, Identity, IdentityCertificate
from partners.models import Contact
from rotations.exchange.bulk import request_announcements
from rotations.letters import announcements
from rotations.lifecycle import approval, drafts
from rotations.models import Rotation, Step
from rotations.planning.windows import Window
from tests.capabilities import keeps_both
from tests.certificates import Pair, cert_pem, make_pair, rsa_key
from tests.people import make_person
from tests.role_assignments import begin
from tests.rotations.company import CHICAGO, confirm_all, connect_many, make_company, make_draft

ROLES = ("sign", "decrypt")


def one(starts_in: float) -> Rotation:
    """Let a company whose two partners confirmed change both roles in a directory, so many seconds from now.

    The directory holds the old certificate. The new one is due to be staged at once.
    """
    now = database_now()
    company = make_company(now=now, hook="reload")
    _fill_directory(company.old, _with_key(company.old))
    now = database_now()
    at = now + timedelta(seconds=starts_in)
    rotation = approval.approve(make_draft(company, starts=at, now=now), by=company.approver, now=now)
    confirm_all(rotation, company, now=now)
    return rotation


def _with_key(certificate: IdentityCertificate) -> Pair:
    """Return a stored certificate of ours with its key."""
    row = certificate.private_key
    assert row is not None
    key = private_keys.unseal(row, by=Actor.command("tests"), now=certificate.created_at, purpose="fill the directory")
    return certificate.certificate, key  # type: ignore[return-value]  # the tests' keys are RSA


def many(
    starts_in: Sequence[float], *, directories: Collection[int] = (), minutes: float = 60, ago: float = 0
) -> list[Rotation]:
    """Let many stations change both roles in one step each, so many seconds from when all of them are approved.

    Those whose numbers are in ``directories`` have a directory with a hook; for the rest it is a matter of the
    inventory alone. With ``ago``, all this was set up and approved so many seconds ago, and nothing ran since.
    """
    now = database_now() - timedelta(seconds=ago)
    alice = User.objects.create_user("alice", "alice@example.com", time_zone="Europe/Berlin")
    bob = User.objects.create_user("bob", "bob@example.com")
    begin = now if ago else now + timedelta(hours=1)
    rotations = []
    for (old, new), seconds in zip(
        _stations(len(starts_in), directories, owner=alice, now=now), starts_in, strict=True
    ):
        at = begin + timedelta(seconds=seconds)
        window = Window(at, at + timedelta(minutes=minutes), CHICAGO)
        wish = drafts.DraftSpec(roles=ROLES, old=old, new=new, window=window)
        rotation = drafts.create_draft(old.identity, wish, by=Actor(name="Alice", source="web", user=alice), now=now)
        rotations.append(approval.approve(rotation, by=Actor(name="Bob", source="web", user=bob), now=now))
    if not ago:
        move(begin - database_now())
    return rotations


def background_jobs(partners: int) -> None:
    """Ask for the report of a rotation with so many partners, and for its announcement to all of them."""
    now = database_now()
    company = make_company(now=now, connector=None)
    connect_many(company.identity, partners - len(company.partners))
    Contact.objects.bulk_create(Contact(partner=one, name="Nora", email="nora@example.com") for one in company.partners)
    draft = make_draft(company, starts=now + timedelta(days=9), now=now)
    rotation = approval.approve(draft, by=company.approver, now=now)
    rotation.steps.filter(act="stage").update(state="done", done_at=now)
    rotation.steps.filter(act="announce").update(blocked=False)
    previews = announcements.build_previews(rotation, announcements.load_participants(rotation), now=now)
    user = make_person("olivia", "operator")
    request_report(rotation, user=user, now=now)
    request_announcements(rotation, {one.participant: one.version for one in previews}, user=user, now=now)


def move(by: timedelta) -> None:
    """Bring all windows forward: how long approving takes depends on the machine, and the moments must not."""
    columns = ("due_at", "earliest_at", "latest_at")
    Step.objects.filter(act="cut_over").update(**{name: F(name) - by for name in columns})
    Rotation.objects.update(window_start=F("window_start") - by, window_end=F("window_end") - by)


def _stations(
    count: int, directories: Collection[int], *, owner: User, now: datetime
) -> list[tuple[IdentityCertificate, IdentityCertificate]]:
    """Make stations whose old certificate serves both roles, and return old and new of each."""
    systems = [
        AS2System.objects.create(
            name=f"System {n}",
            connector="directory",
            config={"folder": f"system-{n}", "hook": "reload"},
            **keeps_both(Support.NO),
        )
        for n in range(3)
    ]
    found = []
    for n in range(count):
        system = systems[n % 3] if n in directories else None
        identity = Identity.objects.create(name=f"Station {n}", as2_id=f"STATION-{n}", as2_system=system)
        identity.owners.add(owner)
        pairs = [_pair(identity.as2_id, key, days, now) for key, days in (("old", 20), ("new", 750))]
        old, new = (_store(identity, pair, now=now) for pair in pairs)
        for role in ROLES:
            begin(old, role, at=now)
        if system:
            _fill_directory(old, pairs[0])
        found.append((old, new))
    return found


def _pair(as2_id: str, key: str, days: int, now: datetime) -> Pair:
    # Two keys for all: making hundreds would take longer than the tests themselves.
    ends = now + timedelta(days=days)
    return make_pair(as2_id, not_before=now - timedelta(days=1), not_after=ends, key=rsa_key(key))


def _store(identity: Identity, pair: Pair, *, now: datetime) -> IdentityCertificate:
    material = pki.Material(leaf=pair[0], chain=(), key=None, container="pem")
    columns = IdentityCertificate.columns_from(material)
    if identity.as2_system_id:
        columns["private_key"] = private_keys.seal(identity, pair[1], now=now)
    row: IdentityCertificate = identity.certificates.create(
        **columns, source="uploaded", created_at=now, created_by="Alice"
    )
    return row


def _fill_directory(old: IdentityCertificate, pair: Pair) -> None:
    """Put the old certificate where the AS2 system reads, as it has been for years: no hook is told."""
    system = old.identity.as2_system
    assert system is not None
    quiet = AS2System(name=system.name, connector=system.connector, config={**system.config, "hook": ""})
    connector = connector_for(quiet)
    assert connector is not None
    item = InstallableCertificate(
        certificate_pem=cert_pem(pair[0]),
        chain_pem=b"",
        sha256=old.sha256,
        serial=int(old.serial),
        not_before=old.not_before,
        not_after=old.not_after,
        key=lambda: pair[1],
    )
    moves = {"decrypt": "replace", "sign": "switch"}
    result = connector.apply(ConnectorChange("before the tests", "own", old.identity.as2_id, moves, None, item))
    assert result.outcome.good, result.message
