"""What must be so after any fault: each scheduled step applied once, at its moment, in the trail, and told once.

It reads the database, the directories and the hook's log afterwards, and says in words what is wrong. Nothing here
asks the code under test what should be: the plan's effects are followed again, step by step.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from django.conf import settings

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from rotations.models import AppliedChange, Rotation, Step
from tests.stack import Stack

#: The kernel stamps files by a clock that advances in steps.
FILE_CLOCK = timedelta(milliseconds=20)
LATE_AFTER = timedelta(seconds=30)
WRITERS = ("sign", "encrypt")


@dataclass(frozen=True)
class Expected:
    """What a scenario should have come to.

    ``scheduled`` steps of ours had a moment that has come; ``failed`` of them are before a person, and ``retried`` of
    those that are done were so before. ``hook_log`` is the file that the hook writes; with ``hooks_once`` each step has
    run it once, otherwise at least once.
    """

    scheduled: int
    failed: int = 0
    retried: int = 0
    hook_log: str = ""
    hooks_once: bool = True
    told: tuple[str, ...] = ("alice@example.com",)


@dataclass
class Findings:
    """What is wrong, and how many seconds after their moments the steps that are done began, in their order.

    By the database's clock, and for those with a hook also by when that began.
    """

    wrong: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    late_hooks: list[float] = field(default_factory=list)


def judge(stack: Stack, expected: Expected) -> Findings:
    """Look at an installation from inside, in a process of its own."""
    found = stack.python(f"from tests.faults import oracle\noracle.tell({json.dumps(asdict(expected))!r})\n")
    return Findings(**found)


def tell(expected: str) -> None:
    """Print the findings about the installation in which this runs, as JSON."""
    sys.stdout.write(json.dumps(asdict(look(Expected(**json.loads(expected))))) + "\n")


def look(expected: Expected) -> Findings:
    """Compare the database of this process, and the directories of its settings, with what is expected."""
    now = datetime.now(UTC)
    rotations = list(Rotation.objects.order_by("pk"))
    steps = [s for s in Step.objects.order_by("pk") if s.automatic and s.earliest_at and s.earliest_at <= now]
    hooks = _hooks(expected.hook_log)
    wrong: list[str] = []
    wrong += _lost(steps, expected)
    wrong += _trail(steps)
    wrong += _early(steps, hooks)
    for rotation in rotations:
        done = [s for s in steps if s.rotation_id == rotation.pk and s.state == "done"]
        wrong += _inventory(rotation, done)
        wrong += _directory(rotation, done)
    wrong += _mail(rotations, steps, expected)
    if expected.hook_log:
        wrong += _hook_runs(steps, dict(hooks), once=expected.hooks_once)
    done = [s for s in steps if s.state == "done"]
    return Findings(
        wrong=wrong,
        late=[(_begun(s) - _moment(s)).total_seconds() for s in sorted(done, key=_moment)],
        late_hooks=[(hooks[str(s.uid)][0][0] - _moment(s)).total_seconds() for s in done if str(s.uid) in hooks],
    )


def _lost(steps: list[Step], expected: Expected) -> Iterator[str]:
    """None lost: as many as were scheduled, and all of them settled."""
    if len(steps) != expected.scheduled:
        yield f"{len(steps)} steps were scheduled, not {expected.scheduled}"
    states = Counter(step.state for step in steps)
    wanted = Counter(done=expected.scheduled - expected.failed, failed=expected.failed)
    if states != +wanted:
        yield f"the steps are {dict(states)}, not {dict(+wanted)}"
    for step in steps:
        if step.state == "done" and step.late != (_lateness(step) > LATE_AFTER):
            yield f"{_name(step)} was done {_lateness(step)} late, and marked {step.late}"
        if step.state == "failed" and not step.error:
            yield f"{_name(step)} failed without a reason"


def _trail(steps: list[Step]) -> Iterator[str]:
    """Rows of the trail = distinct steps: one for each that is done, at the same moment, and none for others."""
    rows = defaultdict(list)
    for entry in Entry.objects.filter(verb="step.done", source="task"):
        rows[entry.object_uid, entry.new.get("step")].append(entry)
    for step in steps:
        found = rows.pop((str(step.rotation.uid), step.key), [])
        if len(found) != (step.state == "done"):
            yield f"{_name(step)} is {step.state} and {len(found)} times in the trail"
        if any(entry.key != f"step:{step.uid}" for entry in found):
            yield f"{_name(step)} is in the trail without its key"
        if any(entry.at != step.done_at for entry in found):
            yield f"{_name(step)} is in the trail at another moment than it was done"
    for (rotation, key), entries in rows.items():
        yield f"{key} of {rotation} is {len(entries)} times in the trail, and was not scheduled"
    for verb in ("rotation.begin", "rotation.finish"):
        moves = Counter(Entry.objects.filter(verb=verb).values_list("object_uid", flat=True))
        for rotation, count in moves.items():
            if count != 1:
                yield f"{verb} of {rotation} is {count} times in the trail"


def _early(steps: list[Step], hooks: dict[str, list[tuple[datetime, str]]]) -> Iterator[str]:
    """None early: neither by the database's clock nor by what its hook wrote down."""
    for step in steps:
        if step.done_at is not None and step.done_at < _moment(step):
            yield f"{_name(step)} was done {_moment(step) - step.done_at} early"
        for at, word in hooks.get(str(step.uid), []):
            if at < _moment(step):
                yield f"{_name(step)} had its hook {word} {_moment(step) - at} early"


def _inventory(rotation: Rotation, done: list[Step]) -> Iterator[str]:
    """The right certificate in each role, from the right moment on, and writers with neither gap nor double."""
    old, new = rotation.old, rotation.new
    assert old is not None and new is not None  # noqa: PT018  # so are all rotations of these tests
    for role in rotation.roles:
        rows = list(rotation.holder.service.filter(role=role).order_by("starts_at", "id"))
        wanted, since = _followed(done, role, old, new)
        held = Counter(row.certificate_id for row in rows if row.ends_at is None)
        if held != Counter(c.pk for c in wanted):
            yield f"{rotation}: {role} is served by {_count(held)}, not by {_count(c.pk for c in wanted)}"
        begun = [row.starts_at for row in rows if row.certificate_id == new.pk]
        if begun != ([since] if since else []):
            yield f"{rotation}: the new one serves {role} from {begun} on, not from {since}"
        if role in WRITERS or len(wanted) == 1:
            for one, following in pairwise(rows):
                if one.ends_at != following.starts_at:
                    yield f"{rotation}: {role} has a gap or a double from {one.ends_at} to {following.starts_at}"


def _followed(done: list[Step], role: str, old: Any, new: Any) -> tuple[list[Any], datetime | None]:
    """Follow the effects of the steps that are done; return what should serve a role, and since when the new one."""
    held, since = [old], None
    for step in done:
        for effect in step.effects:
            if not effect["at"].startswith("us:") or effect["role"] != role:
                continue
            held = [old, new] if effect["move"] == "add" else [new]
            since = since or step.done_at
    return held, since


def _directory(rotation: Rotation, done: list[Step]) -> Iterator[str]:
    """The directory holds the new certificate as current with its key, the old one beside it, and not too early."""
    if rotation.identity is None or rotation.identity.as2_system is None:
        return
    old, new, system = rotation.old, rotation.new, rotation.identity.as2_system
    assert old is not None and new is not None  # noqa: PT018  # so are all rotations of these tests
    station = Path(settings.AS2CERTS_DIRECTORY_ROOT) / system.config["folder"] / "own" / rotation.holder.as2_id
    for role in rotation.roles:
        moved = [s for s in done if any(e["role"] == role and e["at"].startswith("us:") for e in s.effects)]
        current, previous = (_certificate(station / role / link) for link in ("current", "previous"))
        wanted = (new.sha256, old.sha256) if moved else (old.sha256, None)
        if (current, previous) != wanted:
            yield f"{station / role} holds {_short(current)} beside {_short(previous)}, not {_short(wanted[0])}"
        if current is None:
            continue
        if not _key_belongs(station / role / "current"):
            yield f"{station / role}/current holds a key that does not belong to its certificate"
        link = (station / role / "current").lstat()
        turned = datetime.fromtimestamp(link.st_mtime, UTC)
        if moved and turned + FILE_CLOCK < _moment(moved[0]):
            yield f"{station / role}/current was turned over {_moment(moved[0]) - turned} early"


def _certificate(link: Path) -> str | None:
    try:
        pem = (link / "cert.pem").read_bytes()
    except FileNotFoundError:
        return None
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()


def _key_belongs(link: Path) -> bool:
    certificate = x509.load_pem_x509_certificate((link / "cert.pem").read_bytes())
    key = load_pem_private_key((link / "key.pem").read_bytes(), None)
    return bool(key.public_key() == certificate.public_key())


def _mail(rotations: list[Rotation], steps: list[Step], expected: Expected) -> Iterator[str]:
    """One row of the outbox per event and recipient: a change that was applied, a step that failed."""
    rows = Counter(Message.objects.values_list("kind", "key"))
    told: Counter[tuple[str, str, str]] = Counter()
    for kind, key in rows.elements():
        if kind != "applied":
            told[kind, key.split(":")[1], key.rpartition(":")[2]] += 1
    for facts, key in Message.objects.filter(kind="applied").values_list("facts", "key"):
        for uid in [uid for uid, _, _ in facts["changes"]] if "changes" in facts else [facts["rotation"]]:
            told["applied", uid, key.rpartition(":")[2]] += 1
    for (uid,) in AppliedChange.objects.values_list("rotation__uid"):  # the next tick tells of these
        for reader in expected.told:
            told["applied", str(uid), reader] += 1
    applied = [str(r.uid) for r in rotations if r.applied_at is not None]
    failed = [str(s.uid) for s in steps if s.state == "failed"]
    done = {str(s.uid) for s in steps if s.state == "done"}
    retried = {uid for kind, uid, _ in told if kind == "needs_attention" and uid in done}
    if len(retried) != expected.retried:
        yield f"{len(retried)} steps that are done were before a person, not {expected.retried}"
    wanted = Counter(
        (kind, uid, reader)
        for kind, uids in (("applied", applied), ("needs_attention", [*failed, *retried]))
        for uid in uids
        for reader in expected.told
    )
    found = Counter({which: n for which, n in told.items() if which[0] in ("applied", "needs_attention")})
    for which, count in (found - wanted).items():
        yield f"{count} mails too many: {' '.join(which)}"
    for which, count in (wanted - found).items():
        yield f"{count} mails too few: {' '.join(which)}"
    for address in Message.objects.filter(kind__in=("applied", "needs_attention")).values_list("to_address"):
        if address[0] not in expected.told:
            yield f"a mail to {address[0]}, who is not concerned"


def _hooks(path: str) -> dict[str, list[tuple[datetime, str]]]:
    """Read the hook's log: when it began and ended, and in which phase, for each step."""
    found = defaultdict(list)
    if path and Path(path).exists():
        for line in Path(path).read_text().splitlines():
            at, operation, _, word = line.split()
            found[operation].append((datetime.fromtimestamp(float(at), UTC), word))
    return dict(found)


def _hook_runs(steps: list[Step], hooks: dict[str, list[tuple[datetime, str]]], *, once: bool) -> Iterator[str]:
    """Each step that was done in a directory has told its system, and nobody else has."""
    for step in steps:
        words = Counter(word for _, word in hooks.pop(str(step.uid), []))
        has_hook = step.state == "done" and step.system is not None and bool(step.system.config["hook"])
        if once and words != (Counter(begin=1, end=1) if has_hook else Counter()):
            yield f"the hook of {_name(step)} ran {dict(words)} times"
        if not once and has_hook and not words["end"]:
            yield f"the hook of {_name(step)} never ran to its end"
    for operation in hooks:
        yield f"the hook ran for {operation}, which was not scheduled"


def _moment(step: Step) -> datetime:
    assert step.earliest_at is not None  # only steps with a moment are looked at
    return step.earliest_at


def _begun(step: Step) -> datetime:
    """Return when a step began: its change of the inventory, or where there is an AS2 system, opening the key."""
    opened = Entry.objects.filter(verb="key.opened", reason=step.title, subjects__uid=str(step.rotation.uid))
    first = opened.order_by("at").first() if step.system else None
    return first.at if first else _moment(step) + _lateness(step)


def _lateness(step: Step) -> timedelta:
    assert step.done_at is not None, f"{_name(step)} is done at no time"
    return step.done_at - _moment(step)


def _name(step: Step) -> str:
    return f"{step.act} of {step.rotation}"


def _short(sha256: str | None) -> str:
    return sha256[:8] if sha256 else "nothing"


def _count(keys: Any) -> str:
    return ", ".join(map(str, sorted(keys))) or "nothing"
