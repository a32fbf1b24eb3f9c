"""A company with a test counterpart, for tests of rehearsals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from as2certs.accounts.models import Installation
from identities.models import Identity, IdentityCertificate
from partners.models import Partner, Partnership
from rotations.execution import transitions
from rotations.lifecycle import approval, drafts
from rotations.models import Rotation
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepAction
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, confirm_all, make_draft, own_certificate, window

#: The window of the rehearsal is open; that of the production change comes later.
LATER = timedelta(days=2)
STARTS = NOW + LATER


@dataclass
class TestSide:
    """The test counterpart of a company's identity, its test partner and its certificates."""

    __test__ = False

    company: Company
    identity: Identity
    partner: Partner
    old: IdentityCertificate
    new: IdentityCertificate
    now: datetime = NOW

    def draft(self, *, roles: tuple[str, ...] = ("sign", "decrypt")) -> Rotation:
        spec = drafts.DraftSpec(roles=roles, old=self.old, new=self.new, window=window(self.now, minutes=600))
        return drafts.create_draft(self.identity, spec, by=self.company.by, now=self.now)

    def rehearse(self, rotation: Rotation, *, roles: tuple[str, ...] = ("sign", "decrypt")) -> Rotation:
        """Create a draft that is the rehearsal of a rotation."""
        made = self.draft(roles=roles)
        approval.link_rehearsal(rotation, made, by=self.company.by, now=self.now)
        return made

    def apply(self, made: Rotation) -> Rotation:
        """Approve a draft, and carry it out up to the tests."""
        made = approval.approve(made, by=self.company.approver, now=self.now)
        confirm_all(made, self.company, now=self.now)
        acts = (Act.STAGE, Act.HOLD, Act.CUT_OVER, Act.PARTNER_CUT_OVER)
        settle_steps(made, *acts, company=self.company, now=self.now)
        made.refresh_from_db()
        assert made.state == "applied"
        return made

    def test(self, made: Rotation) -> None:
        settle_steps(made, Act.TEST, company=self.company, now=self.now)


def settle_steps(rotation: Rotation, *acts: str, company: Company, now: datetime = NOW) -> None:
    """Finish the open steps of these acts, in order."""
    for act in acts:
        for step in rotation.steps.filter(act=act).exclude(state__in=SETTLED).order_by("position"):
            rotation.steps.filter(pk=step.pk).update(state="running")
            step.refresh_from_db()
            transitions.settle_step(step, StepAction.FINISH, by=company.by, now=now)


def make_test_side(company: Company, *, now: datetime = NOW) -> TestSide:
    """Create a test counterpart of the company's identity; see also ``require_rehearsals``."""
    name = company.identity.name
    identity = Identity.objects.create(name=f"{name} test", as2_id=f"{name}-TEST", environment="test")
    as2_id = f"FABRIKAM-{name}"
    partner = Partner.objects.create(name="Fabrikam test", as2_id=as2_id, environment="test", **keeps_both("yes"))
    Partnership.objects.create(identity=identity, partner=partner)
    company.identity.rehearsal_identity = identity
    company.identity.save()
    old, new = (make_certificate(identity, company, days=days, now=now) for days in (20, 750))
    return TestSide(company, identity, partner, old, new, now)


def make_certificate(identity: Identity, company: Company, *, days: int, now: datetime) -> IdentityCertificate:
    ends = now + timedelta(days=days)
    return own_certificate(identity, by=company.by, now=now, ends=ends, name=identity.as2_id)


def require_rehearsals(asked: bool = True) -> None:
    installation = Installation.current()
    installation.require_rehearsal = asked
    installation.save()


def make_prepared(company: Company, *, now: datetime = NOW) -> Rotation:
    """Return an approved rotation with all answers of partners and a finished staging."""
    rotation = approval.approve(make_draft(company, starts=now + LATER, now=now), by=company.approver, now=now)
    settle_steps(rotation, Act.STAGE, company=company, now=now)
    confirm_all(rotation, company, now=now)
    rotation.refresh_from_db()
    return rotation
