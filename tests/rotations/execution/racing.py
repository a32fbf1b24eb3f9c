"""Run two actions at the same moment, again and again, in an installation on PostgreSQL, which has row locks."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.clock import database_now
from identities import role_assignments
from identities.certificates.single_import import import_certificate
from identities.models import Identity, IdentityCertificate
from partners.models import Partnership
from rotations import runner
from rotations.errors import ActionRefused, EditConflict, IllegalTransition
from rotations.lifecycle import approval, drafts, endings, rescheduling
from rotations.models import Rotation
from rotations.planning.windows import Window
from tests.certificates import make_pair
from tests.rotations.company import CHICAGO, Company, make_company

#: Seconds: how unevenly two begin, and how much later whoever won begins the next time.
JITTER, LEAD = 0.004, 0.002


class RacingActions:
    """One identity whose signature alternates between two certificates, each time with two racing actions."""

    def __init__(self) -> None:
        self.company: Company = make_company(now=database_now(), connector=None)
        Partnership.objects.update(archived_at=database_now())

    def cancel(self, rotation: Rotation) -> object:
        return endings.cancel(rotation, reason="race", by=self.company.by, now=database_now())

    def postpone(self, rotation: Rotation) -> object:
        later = _window(database_now() + timedelta(days=1))
        return rescheduling.postpone(
            rotation, rescheduling.WindowChange(later, reason="race"), by=self.company.by, now=database_now()
        )

    def roll_back(self, rotation: Rotation) -> object:
        return endings.roll_back(rotation, reason="race", by=self.company.by, now=database_now())

    def approve(self, rotation: Rotation) -> object:
        return approval.approve(rotation, by=self.company.approver, now=database_now())

    def apply(self, rotation: Rotation) -> object:
        if not runner.apply_due(wait=False):
            raise ActionRefused("Nothing was due any more.")
        return None

    def change(self, rotation: Rotation) -> object:
        spec = drafts.DraftSpec(roles=("sign",), old=self.signs, new=self._other, window=None, notes="changed")
        return drafts.change_draft(rotation, spec, by=self.company.by, now=database_now())

    @property
    def signs(self) -> IdentityCertificate:
        certificate: IdentityCertificate = role_assignments.certificates_by_role(self.company.identity)["sign"][0]
        return certificate

    @property
    def _other(self) -> IdentityCertificate:
        return self.company.new if self.signs == self.company.old else self.company.old

    def rotation(self, *, upto: str) -> Rotation:
        """Return a rotation whose window is open, as a draft, "due" or "applied"."""
        starts = database_now() - timedelta(minutes=1)
        spec = drafts.DraftSpec(roles=("sign",), old=self.signs, new=self._other, window=_window(starts))
        rotation = drafts.create_draft(self.company.identity, spec, by=self.company.by, now=database_now())
        if upto != "draft":
            rotation = approval.approve(rotation, by=self.company.approver, now=database_now())
        if upto == "applied":
            self.apply(rotation)
        return rotation

    def run(self, upto: str, names: tuple[str, str], times: int) -> dict[str, Any]:
        """Run both actions at once, so many times; count which one won, and collect inconsistencies."""
        won: Counter[str] = Counter()
        wrong: list[str] = []
        dice = random.Random(f"{upto}{names}")
        lead = 0.0
        for _ in range(times):
            rotation, before = self.rotation(upto=upto), self.signs
            acts = [partial(getattr(self, name), rotation) for name in names]
            results = run_concurrently(acts, [max(0, lead) + dice.uniform(0, JITTER), max(0, -lead)])
            # Whoever wins too often begins later the next time, until both have the same chance.
            lead += LEAD if results[0] is None else -LEAD
            won["+".join(n for n, e in zip(names, results, strict=True) if e is None)] += 1
            wrong += [repr(e) for e in results if not isinstance(e, REFUSED)]
            wrong += self._inconsistent(rotation, before)
            Rotation.objects.filter(pk=rotation.pk).update(state="closed", ended_at=database_now())
        return {"won": won, "wrong": wrong[:5]}

    def _inconsistent(self, rotation: Rotation, before: IdentityCertificate) -> list[str]:
        rotation = Rotation.objects.get(pk=rotation.pk)
        step = rotation.steps.filter(act="cut_over").first()
        changed = self.signs != before
        found = []
        if rotation.state == "cancelled" and changed and not rotation.applied_at:
            found.append("cancelled, and yet applied")
        if rotation.state == "applied" and step and not changed and not rotation.applied_at:
            found.append("applied, and yet not changed")
        if step and Entry.objects.filter(key=f"step:{step.uid}").count() > 1:
            found.append("settled twice")
        for end in ("rotation.cancel", "rotation.finish", "rotation.roll_back", "rotation.approve"):
            if Entry.objects.filter(object_uid=rotation.uid, verb=end).count() > 1:
                found.append(f"{end} twice")
        return found + role_gaps(self.company.identity)


REFUSED = (type(None), ActionRefused, IllegalTransition, EditConflict)


def role_gaps(identity: Identity) -> list[str]:
    """Return the gaps and overlaps in the history of a writer."""
    rows = list(identity.service.filter(role="sign").order_by("id").values_list("starts_at", "ends_at"))
    ends = [end for _, end in rows]
    starts = [start for start, _ in rows]
    return [] if ends[:-1] == starts[1:] and ends[-1] is None else [f"history: {rows}"]


def run_concurrently(acts: Sequence[Callable[[], object]], pauses: Sequence[float]) -> list[Exception | None]:
    """Run each action in a thread, after a pause in seconds, and return the error that each one raised."""
    results: list[Exception | None] = [None] * len(acts)
    gate = threading.Barrier(len(acts))

    def go(n: int) -> None:
        try:
            connection.ensure_connection()
            gate.wait()
            time.sleep(pauses[n])
            acts[n]()
        except Exception as error:  # noqa: BLE001  # it is looked at by whoever asked
            results[n] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=(n,)) for n in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _window(starts: datetime) -> Window:
    return Window(starts, starts + timedelta(hours=1), CHICAGO)


def uploads(times: int) -> dict[str, Any]:
    """Let two people upload the same file, and two different ones, for a station that has none, at once."""
    company, dice = make_company(now=database_now(), connector=None), random.Random(3)
    pauses = [dice.uniform(0, JITTER), dice.uniform(0, JITTER)]
    wrong: list[str] = []
    for n in range(times):
        identity = Identity.objects.create(name=f"N{n}", as2_id=f"N{n}")
        pairs = [make_pair("two people", serial=10**6 + m) for m in (0, n % 2)]
        files = [pki.Material(leaf=leaf, chain=(), key=key, container="pem") for leaf, key in pairs]

        def take(material: pki.Material, identity: Identity = identity) -> object:
            roles = ("sign", "decrypt")
            return import_certificate(identity, material, roles=roles, by=company.by, now=database_now())

        results = run_concurrently([partial(take, material) for material in files], pauses)
        wrong += [repr(e) for e in results if e is not None and "already" not in str(e)]
        served = {role: len(held) for role, held in role_assignments.certificates_by_role(identity).items()}
        wrong += [] if served == {"sign": 1, "decrypt": 1} else [str(served)]
    return {"wrong": wrong[:5]}
