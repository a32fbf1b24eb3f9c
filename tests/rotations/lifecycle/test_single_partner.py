"""Signing per partner: own windows, executed with the directory connector, moved, taken back and missed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import LazySettings

from as2certs import pki
from as2certs.audit.models import Entry
from identities import role_assignments
from identities.capabilities import Support
from identities.certificates import private_keys
from identities.connectors import connector_for
from identities.connectors.base import ConnectorChange, ConnectorOutcome, InstallableCertificate
from identities.models import AS2System
from partners import signing_choices
from partners.models import Contact, Partnership
from rotations.errors import ActionRefused, IllegalTransition
from rotations.execution import confirmations
from rotations.letters import announcements
from rotations.lifecycle import approval, drafts, endings, rescheduling, step_actions
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.partner_actions import ChangeProgress
from rotations.planning.states import RotationState, StepState
from rotations.web.portal.page import PortalPage
from tests.capabilities import SIGNS_PER_PARTNER
from tests.rotations.company import NOW, Company, confirm_all, make_company, window
from tests.rotations.fake_clock import FakeClock

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(hours=2)
LATER = STARTS + timedelta(days=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return tmp_path / "openas2" / "own" / "ACME-PROD"


@pytest.fixture
def company(folder: Path) -> Company:
    return per_partner_company()


def per_partner_company(*, holds: str = Support.YES, old_days: int = 20) -> Company:
    """A company whose AS2 system can sign per partner."""
    company = make_company(partners_keep_both=holds, old_days=old_days)
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    assert company.identity.as2_system is not None
    company.identity.as2_system.refresh_from_db()
    _load(company, company.identity.as2_system)
    return company


def _load(company: Company, system: AS2System) -> None:
    """Write the old certificate to the AS2 system, which used it before it was connected."""
    old = company.old
    key = old.private_key
    assert key is not None
    item = InstallableCertificate(
        certificate_pem=pki.to_pem(old.certificate),
        chain_pem=b"",
        sha256=old.sha256,
        serial=int(old.serial),
        not_before=old.not_before,
        not_after=old.not_after,
        key=lambda: private_keys.unseal(key, by=company.by, now=NOW, purpose="loading what was there"),
    )
    moves = {"decrypt": "add", "sign": "switch"}
    first = ConnectorChange(operation="first", side="own", as2_id="ACME-PROD", moves=moves, old=None, new=item)
    connector = connector_for(system)
    assert connector is not None
    assert connector.apply(first).outcome is ConnectorOutcome.APPLIED


def started(company: Company, *, roles: tuple[str, ...] = ("sign", "decrypt")) -> Rotation:
    wish = drafts.DraftSpec(roles=roles, old=company.old, new=company.new, window=window(STARTS))
    rotation = drafts.create_draft(company.identity, wish, by=company.by, now=NOW)
    rotation = approval.approve(rotation, by=company.approver, now=NOW)
    FakeClock().apply_due()
    return rotation


def run(clock: FakeClock, at: datetime) -> None:
    clock.now = at
    clock.apply_due()


def state(rotation: Rotation) -> str:
    return Rotation.objects.values_list("state", flat=True).get(pk=rotation.pk)


def part(rotation: Rotation, name: str) -> Participant:
    return rotation.participants.select_related("partner", "rotation").get(partner__name=name)


def confirm(rotation: Rotation, name: str, company: Company, *, now: datetime = NOW) -> None:
    assert rotation.new is not None
    confirmations.confirm_installation(
        part(rotation, name),
        confirmations.PartnerAnswer("Dave", by=company.by, now=now),
        fingerprint=pki.format_fingerprint(rotation.new.sha256),
        agreed=True,
    )


def move(rotation: Rotation, name: str, company: Company, starts: datetime, *, now: datetime = NOW) -> None:
    rescheduling.move_participant(
        part(rotation, name),
        rescheduling.WindowChange(window(starts), reason="inventory that night"),
        by=company.by,
        now=now,
    )


def cut_over(rotation: Rotation, name: str = "") -> Step:
    """Return our current cut-over for one partner, or that of the default."""
    steps = rotation.steps.filter(act="cut_over").exclude(key__startswith="past:")
    found: Step = steps.get(participant__partner__name=name) if name else steps.get(participant=None)
    return found


def signs(folder: Path, partner: str = "") -> str:
    """Return the SHA-256 of the signing certificate in the AS2 system: for one partner, or the default."""
    own = folder / "partners" / partner / "sign" / "current" / "cert.pem"
    place = own if partner and own.exists() else folder / "sign" / "current" / "cert.pem"
    return x509.load_pem_x509_certificate(place.read_bytes()).fingerprint(hashes.SHA256()).hex()


def in_inventory(company: Company, name: str, at: datetime) -> str:
    partnership = Partnership.objects.get(partner__name=name)
    certificate = signing_choices.signing_certificate_at(partnership, at)
    assert certificate is not None
    return str(certificate.sha256)


def turns(name: str) -> list[tuple[str, datetime]]:
    """Return the signing certificates for a partner and since when, by its choice or by default."""
    spans = signing_choices.signing_history(Partnership.objects.get(partner__name=name))
    by_certificate = groupby(spans, key=lambda span: span.certificate.sha256)
    return [(sha256, next(group).start) for sha256, group in by_certificate]


def test_each_partner_switches_in_its_own_window_and_the_default_last(
    company: Company, folder: Path, clock: FakeClock
) -> None:
    rotation = started(company)
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    confirm(rotation, "Northwind", company)
    old, new = company.old.sha256, company.new.sha256

    run(clock, STARTS - timedelta(seconds=1))
    assert state(rotation) == RotationState.SCHEDULED
    run(clock, STARTS)
    assert (signs(folder, "FABRIKAM"), signs(folder, "NORTHWIND"), signs(folder)) == (new, old, old)
    assert state(rotation) == RotationState.UNDER_WAY
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.old]
    now = STARTS + timedelta(minutes=1)
    assert (in_inventory(company, "Fabrikam", now), in_inventory(company, "Northwind", now)) == (new, old)

    run(clock, LATER)
    assert (signs(folder, "FABRIKAM"), signs(folder, "NORTHWIND"), signs(folder)) == (new, new, new)
    assert not (folder / "partners").exists() or not list((folder / "partners").rglob("current"))
    assert state(rotation) == RotationState.APPLIED
    assert role_assignments.certificates_by_role(company.identity)["sign"] == [company.new]

    assert turns("Fabrikam") == [(old, NOW), (new, STARTS)]
    assert turns("Northwind") == [(old, NOW), (new, LATER)]


def test_a_partner_that_is_not_ready_does_not_delay_the_others(
    company: Company, folder: Path, clock: FakeClock
) -> None:
    rotation = started(company)
    confirm(rotation, "Fabrikam", company)
    run(clock, STARTS)
    assert state(rotation) == RotationState.UNDER_WAY
    assert signs(folder, "FABRIKAM") == company.new.sha256
    assert signs(folder, "NORTHWIND") == company.old.sha256
    assert cut_over(rotation).blocked

    confirm(rotation, "Northwind", company, now=STARTS + timedelta(minutes=5))
    run(clock, STARTS + timedelta(minutes=6))
    assert state(rotation) == RotationState.APPLIED


def test_a_partner_that_missed_its_window_gets_another_one_alone(
    company: Company, folder: Path, clock: FakeClock
) -> None:
    rotation = started(company)
    confirm(rotation, "Fabrikam", company)
    run(clock, STARTS)
    over = STARTS + timedelta(hours=2)
    confirm(rotation, "Northwind", company, now=over)
    run(clock, over)
    missed = cut_over(rotation, "Northwind")
    assert missed.state == StepState.FAILED
    assert "before the change could be made" in missed.error

    move(rotation, "Northwind", company, LATER, now=over)
    assert cut_over(rotation, "Northwind").state == StepState.WAITING
    run(clock, LATER)
    assert signs(folder, "NORTHWIND") == company.new.sha256
    assert state(rotation) == RotationState.APPLIED


def phase(rotation: Rotation, name: str, now: datetime) -> ChangeProgress:
    """Return what the page of a partner says of the change."""
    return PortalPage.of(rotation.participants.get(partner__name=name), now=now).progress


def test_one_partner_goes_back_after_all_others_and_switches_again(
    company: Company, folder: Path, clock: FakeClock
) -> None:
    rotation = started(company)
    confirm_all(rotation, company)
    run(clock, STARTS)
    assert state(rotation) == RotationState.APPLIED  # all partners and the default have switched
    now = STARTS + timedelta(minutes=10)
    take_back(rotation, "Fabrikam", company, now=now)
    run(clock, now)
    assert state(rotation) == RotationState.UNDER_WAY
    assert (signs(folder, "FABRIKAM"), signs(folder)) == (company.old.sha256, company.new.sha256)
    assert in_inventory(company, "Fabrikam", now) == company.old.sha256
    move(rotation, "Fabrikam", company, LATER, now=now)
    run(clock, LATER)
    assert signs(folder, "FABRIKAM") == company.new.sha256
    assert in_inventory(company, "Fabrikam", LATER) == company.new.sha256
    assert state(rotation) == RotationState.APPLIED


def test_one_partner_goes_back_before_others_have_switched(company: Company, folder: Path, clock: FakeClock) -> None:
    rotation = started(company)
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    confirm(rotation, "Northwind", company)
    run(clock, STARTS)
    now = STARTS + timedelta(minutes=10)
    take_back(rotation, "Fabrikam", company, now=now)
    assert phase(rotation, "Fabrikam", now) is ChangeProgress.GOING_BACK
    run(clock, now)
    assert phase(rotation, "Fabrikam", now) is ChangeProgress.WENT_BACK
    assert signs(folder, "FABRIKAM") == company.old.sha256
    assert in_inventory(company, "Fabrikam", now) == company.old.sha256
    run(clock, LATER)
    assert signs(folder, "NORTHWIND") == company.new.sha256
    assert signs(folder) == company.old.sha256  # the default waits for the one that went back
    assert state(rotation) == RotationState.UNDER_WAY
    with pytest.raises(ActionRefused, match="agree another moment"):
        step_actions.complete_step(cut_over(rotation, "Fabrikam"), note="x", by=company.by, now=LATER)

    again = LATER + timedelta(days=1)
    move(rotation, "Fabrikam", company, again, now=LATER)
    run(clock, again)
    assert signs(folder) == company.new.sha256
    assert state(rotation) == RotationState.APPLIED
    assert turns("Fabrikam") == [
        (company.old.sha256, NOW),
        (company.new.sha256, STARTS),
        (company.old.sha256, now),
        (company.new.sha256, again),
    ]


def take_back(rotation: Rotation, name: str, company: Company, *, now: datetime) -> None:
    endings.take_back_participant(part(rotation, name), reason="they can't read it", by=company.by, now=now)


def test_all_partners_go_back_with_the_default(company: Company, folder: Path, clock: FakeClock) -> None:
    rotation = started(company)
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    run(clock, STARTS)
    assert signs(folder, "FABRIKAM") == company.new.sha256
    now = STARTS + timedelta(minutes=10)
    endings.roll_back(rotation, reason="all wrong", by=company.by, now=now)
    run(clock, now)
    assert state(rotation) == RotationState.CANCELLED
    assert (signs(folder, "FABRIKAM"), signs(folder)) == (company.old.sha256, company.old.sha256)
    assert in_inventory(company, "Fabrikam", now) == company.old.sha256


def test_postponing_affects_only_partners_that_have_not_switched(
    company: Company, folder: Path, clock: FakeClock
) -> None:
    rotation = started(company)
    confirm(rotation, "Fabrikam", company)
    run(clock, STARTS)
    now = STARTS + timedelta(minutes=10)
    rescheduling.postpone(
        rotation, rescheduling.WindowChange(window(LATER), reason="next night"), by=company.by, now=now
    )
    assert part(rotation, "Fabrikam").starts == STARTS
    assert part(rotation, "Northwind").starts == LATER
    assert cut_over(rotation, "Fabrikam").state == StepState.DONE
    confirm(rotation, "Northwind", company, now=now)
    run(clock, LATER)
    assert state(rotation) == RotationState.APPLIED


def test_an_own_window_has_to_lie_in_the_overlap(company: Company, folder: Path, clock: FakeClock) -> None:
    rotation = started(company)
    ends = company.old.not_after
    with pytest.raises(ActionRefused, match="The old certificate ends before"):
        move(rotation, "Fabrikam", company, ends + timedelta(hours=1))
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    run(clock, STARTS)
    with pytest.raises(ActionRefused, match="changed over for Fabrikam already"):
        move(rotation, "Fabrikam", company, LATER, now=STARTS)


def test_there_are_no_own_windows_if_all_switch_together(folder: Path, clock: FakeClock) -> None:
    company = make_company()
    rotation = started(company)
    with pytest.raises(ActionRefused, match="at once: postpone"):
        move(rotation, "Fabrikam", company, LATER)
    with pytest.raises(IllegalTransition):
        take_back(rotation, "Fabrikam", company, now=NOW)


def test_a_one_slot_partner_switches_simultaneously_in_its_own_window(folder: Path, clock: FakeClock) -> None:
    company = per_partner_company(holds=Support.NO)
    rotation = started(company, roles=("sign",))
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    confirm(rotation, "Northwind", company)
    for step in rotation.steps.filter(act="hold", participant__partner__name="Fabrikam"):
        step_actions.complete_step(step, note="held", by=company.by, now=STARTS - timedelta(minutes=30))
    run(clock, STARTS)
    assert signs(folder, "FABRIKAM") == company.new.sha256
    assert signs(folder, "NORTHWIND") == company.old.sha256
    theirs = rotation.steps.get(act="partner_cut_over", participant__partner__name="Northwind")
    assert theirs.earliest_at == LATER


def test_only_the_moved_partner_is_notified(company: Company, folder: Path, clock: FakeClock) -> None:
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Dana", email=f"dana@{partner.as2_id.lower()}.example")
    rotation = started(company)
    for name in ("Fabrikam", "Northwind"):
        announcements.announce(part(rotation, name), by=company.by, now=NOW)
    confirm_all(rotation, company)
    move(rotation, "Northwind", company, LATER)
    letters = Letter.objects.filter(kind=Letter.Kind.MOVED)
    (letter,) = letters
    assert letter.participant == part(rotation, "Northwind")
    assert letter.message is not None
    assert "Tue 24 Nov 2026, 08:00" in letter.message.text  # LATER on Northwind's clock, in Chicago
    entry = Entry.objects.filter(verb="participant.moved").get()
    assert entry.reason == "inventory that night"
