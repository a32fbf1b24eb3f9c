"""The texts of a plan: for each step a title, and a sentence that says why it comes when it does.

That reason says what goes wrong if the step is done too early, too late or not at all.
"""

from dataclasses import dataclass

from rotations.planning.change import Act, CertificateChange, Effect, Move, Party, Role, System, sort_roles


@dataclass(frozen=True)
class StepContext:
    """The properties of a step that its texts depend on."""

    change: CertificateChange
    act: Act
    system: System | None
    party: Party | None
    effects: tuple[Effect, ...]
    simultaneous: bool

    @property
    def old(self) -> str:
        """The name of the old certificate."""
        return self.change.old_name

    @property
    def new(self) -> str:
        """The name of the new certificate."""
        return self.change.new_name

    @property
    def ours(self) -> str:
        """The name of the AS2 system of the step."""
        return self.system.name if self.system else "our AS2 systems"

    @property
    def they(self) -> str:
        """The name of the partner of the step."""
        return self.party.name if self.party else "the partners"

    @property
    def moves(self) -> dict[Role, Move]:
        """The moves of the step, by role."""
        return {effect.role: effect.move for effect in self.effects}

    @property
    def we_read_with_one(self) -> bool:
        """Whether a system of ours has room for one certificate to read the partner's messages."""
        return bool(self.change.read_by_us) and any(not system.holds.fits_both for system in self.change.systems)

    @property
    def they_read_with_one(self) -> bool:
        """Whether the partner has room for one certificate to read our messages."""
        return bool(self.change.read_by_them) and self.party is not None and not self.party.holds.fits_both


TitleAndReason = tuple[str, str]


def describe_step(step: StepContext) -> TitleAndReason:
    """Return the title of a step and its reason."""
    if step.change.emergency and (words := _emergency(step)):
        return words
    match step.act:
        case Act.CHECK:
            return _check(step)
        case Act.STAGE:
            return _stage(step)
        case Act.ANNOUNCE:
            return _announce_own(step) if step.change.side == "own" else _announce_partner(step)
        case Act.INSTALL:
            return _install(step)
        case Act.AGREE:
            return _agree(step)
        case Act.HOLD:
            return _hold(step)
        case Act.CUT_OVER:
            return _cut_over_title(step), f"{_cut_over_reason(step)}{_dated_system_note(step)}{_lead_note(step)}"
        case Act.PARTNER_CUT_OVER:
            return _partner_cut_over_title(step), _partner_cut_over_reason(step)
        case Act.TEST:
            return _test(step)
        case Act.RELEASE:
            return _release(step)
        case Act.PARTNER_RETIRE:
            return _partner_retire(step)
        case Act.RETIRE:
            return _retire(step)


def _emergency(step: StepContext) -> TitleAndReason | None:
    """Return the texts that differ in an emergency, else None."""
    match step.act:
        case Act.CUT_OVER:
            return _cut_over_title(step), (
                f"Whoever knows the key of {step.old} can use it until nothing here does: messages with partners that "
                "have not changed yet fail from now on, and that is the lesser harm."
            )
        case Act.ANNOUNCE:
            return f"Tell {step.they} at once that {step.old} is not to be trusted any more", (
                f"Until {step.they} has replaced it, our messages are rejected there, and whoever knows the key could "
                "pass for us."
            )
        case Act.PARTNER_CUT_OVER:
            return _partner_cut_over_title(step), (
                f"Until {step.they} has done so, messages fail, and {step.old} is still trusted there."
            )
        case Act.RETIRE:
            return f"Remove {step.old} from {step.ours}", (
                "Kept for late messages, it would be kept for the intruder too; what comes late has to be sent again."
            )
    return None


def _check(step: StepContext) -> TitleAndReason:
    return (
        f"Compare the SHA-256 of {step.new} with {step.they} over another channel",
        (
            f"A forged certificate would let a stranger read our messages or sign as {step.they}, so "
            "nothing is set up before the fingerprints have been compared."
        ),
    )


def _stage(step: StepContext) -> TitleAndReason:
    if Role.DECRYPT in step.moves:
        return (
            f"Load {step.new}'s key beside {step.old} for decryption in {step.ours}",
            (
                f"Partners may encrypt to {step.new} as soon as they have it; if we could not decrypt "
                "with it by then, their messages would fail with decryption-failed."
            ),
        )
    return (
        f"Accept signatures of {step.new} beside {step.old} in {step.ours}",
        (
            f"{step.new} must be accepted before it is used, or the messages and MDNs that it signs are "
            "rejected here and our messages are sent again."
        ),
    )


def _announce_own(step: StepContext) -> TitleAndReason:
    holder = f" of {step.change.holder_name}" if step.change.holder_name else ""
    title = f"Send {step.new}{holder} with its SHA-256 to {step.they}"
    if step.we_read_with_one:
        return title, (
            f"{step.they} needs {step.new} at hand before the window, but must not use it earlier: our "
            "system holds one certificate and could not decrypt."
        )
    if step.they_read_with_one:
        return title, (
            f"{step.they} needs {step.new} at hand before the window, but holds one certificate: if it "
            f"saves {step.new} earlier, it rejects what we still sign with {step.old}."
        )
    if step.change.read_by_us:
        return title, (
            f"Our system already decrypts with both, so {step.they} may encrypt to {step.new} at once; "
            f"sent earlier, its messages would have failed, and sent late, {step.old} may end first."
        )
    if step.change.changes_when_ready(step.party):
        return title, (
            f"{step.they} rejects what we sign with {step.new} until it has added it; we change for {step.they} as "
            "soon as it has, whatever the others do."
        )
    return title, (
        f"{step.they} rejects what we sign with {step.new} until it has added it, so it needs "
        f"{step.new} well before the window."
    )


def _announce_partner(step: StepContext) -> TitleAndReason:
    if step.we_read_with_one:
        return (
            f"Tell {step.they} that we change to {step.new} in the window",
            (
                f"Not all of our systems accept two certificates, so messages and MDNs that {step.they} "
                f"signs with {step.new} before the window are rejected."
            ),
        )
    return (
        f"Tell {step.they} that we accept {step.new}",
        (
            f"We accept both certificates now; {step.they} waits for this word, because signing with "
            f"{step.new} before it would have failed here."
        ),
    )


def _install(step: StepContext) -> TitleAndReason:
    if step.change.side == "own":
        return (
            (f"{step.they} adds {step.new} beside {step.old}, for messages and MDNs, and confirms the fingerprint"),
            (
                f"If we sign with {step.new} before {step.they} accepts it, our messages get "
                f"authentication-failed and our MDNs don't verify, so {step.they} sends again what we "
                "already processed."
            ),
        )
    return (
        f"{step.they} loads {step.new}'s key beside {step.old} and says so",
        (
            f"If we encrypt to {step.new} before {step.they} has its key, our messages fail with "
            f"decryption-failed, and only {step.they} can tell us that it has."
        ),
    )


def _agree(step: StepContext) -> TitleAndReason:
    holder = step.they if step.they_read_with_one else "our side"
    return (
        f"{step.they} agrees to the window",
        (
            f"One certificate is all that {holder} can hold, so both sides change together: whoever moves "
            "without the other causes failed messages until the other has moved too."
        ),
    )


def _queue_name(step: StepContext) -> str:
    """Return the name of the queue that is held: of a whole system, or to one partner."""
    return f"our outbound queue to {step.they}" if step.party else "our outbound queue"


def _hold(step: StepContext) -> TitleAndReason:
    return (
        f"Pause {_queue_name(step)} in {step.ours}",
        (
            "What we send while the two sides change could be rejected or answered with an MDN that does "
            "not verify; paused late, asynchronous MDNs are still on their way when the certificates "
            "change."
        ),
    )


def _cut_over_title(step: StepContext) -> str:
    if step.change.per_partner:
        to_whom = f"to {step.they}" if step.party else "by default"
        return f"Sign {to_whom} with {step.new} in {step.ours}"
    match step.moves:
        case {Role.SIGN: _, Role.DECRYPT: _}:
            return f"Sign and decrypt with {step.new} instead of {step.old} in {step.ours}"
        case {Role.ENCRYPT: _, Role.VERIFY: _}:
            return f"Encrypt to {step.new} and verify with it instead of {step.old} in {step.ours}"
        case {Role.SIGN: _}:
            return f"Sign messages and MDNs with {step.new} in {step.ours}"
        case {Role.ENCRYPT: _}:
            return f"Encrypt to {step.new} in {step.ours}"
        case {Role.DECRYPT: _}:
            return f"Decrypt with {step.new} instead of {step.old} in {step.ours}"
        case _:
            return f"Verify with {step.new} instead of {step.old} in {step.ours}"


def _cut_over_reason(step: StepContext) -> str:
    if step.simultaneous:
        return (
            "Both sides change in the same window because one of them holds one certificate only: earlier or "
            "later than the other side, messages fail until it has moved too."
        )
    if step.change.per_partner:
        return _per_partner_reason(step)
    if Role.SIGN in step.moves:
        return (
            f"The partners accept {step.new} by now; earlier, our messages get authentication-failed and "
            f"our MDNs don't verify, and later than the end of {step.old}, partners may reject what it "
            "signs."
        )
    return (
        f"The partner decrypts with {step.new} by now; earlier, our messages fail with decryption-failed, "
        f"and too late, the partner has dropped {step.old}; messages queued for a retry must be encrypted "
        "again."
    )


def _dated_system_note(step: StepContext) -> str:
    """Return a note for systems that switch by date, if a person operates them; else an empty text."""
    if step.system is None or step.system.automatic or not step.system.dated:
        return ""
    return (
        f" {step.ours} takes dates: once everybody is ready, enter the beginning of the window as the date from which "
        f"{step.new} is used, and record this when it is in use."
    )


def _lead_note(step: StepContext) -> str:
    """Return a note for systems that read what is written only at an interval; else an empty text."""
    lead = step.change.lead_of(step.system) if step.system and step.system.automatic else None
    if not lead:
        return ""
    seconds = int(lead.total_seconds())
    how_long = f"{seconds // 60} minutes" if seconds > 60 and seconds % 60 == 0 else f"{seconds} seconds"
    return f" It is written up to {how_long} ahead, since {step.ours} reads it only so often."


def _per_partner_reason(step: StepContext) -> str:
    if step.party is None:
        return (
            f"Every partner that takes part is signed to with {step.new} by now; earlier, those that do not accept it "
            f"yet would get it too, and left out, {step.old} would go on signing for everybody else until its end."
        )
    return (
        f"{step.they} accepts {step.new} by now, whatever the others do; earlier, our messages get "
        f"authentication-failed and our MDNs don't verify, and later than the end of {step.old}, {step.they} may "
        "reject what it signs."
    )


def _partner_cut_over_title(step: StepContext) -> str:
    match step.moves:
        case {Role.SIGN: _, Role.DECRYPT: _}:
            return f"{step.they} verifies with and encrypts to {step.new} instead of {step.old}"
        case {Role.ENCRYPT: _, Role.VERIFY: _}:
            return f"{step.they} signs and decrypts with {step.new} instead of {step.old}"
        case {Role.SIGN: _}:
            return f"{step.they} verifies with {step.new} instead of {step.old}"
        case {Role.ENCRYPT: _}:
            return f"{step.they} decrypts with {step.new} instead of {step.old}"
        case {Role.DECRYPT: _}:
            return f"{step.they} encrypts to {step.new}"
        case _:
            return f"{step.they} signs with {step.new}"


def _partner_cut_over_reason(step: StepContext) -> str:
    if step.simultaneous:
        return (
            f"{step.they} pauses its queue and changes in the same window as we do: earlier or later, "
            "messages fail until the other side has moved too."
        )
    return (
        f"We accept both certificates, so {step.they} switches when it likes; the first message that uses "
        f"{step.new} shows that it has, and until then {step.old} has to stay."
    )


def _test(step: StepContext) -> TitleAndReason:
    roles = step.change.roles
    if roles == {Role.DECRYPT}:
        return (
            f"Have {step.they} send a test message to {step.ours}",
            (
                f"Only an inbound message shows that {step.they} encrypts to {step.new} and that we "
                "decrypt it; without it, the next order is the test."
            ),
        )
    if roles == {Role.ENCRYPT}:
        return (
            f"Send a test message from {step.ours} to {step.they}",
            (
                f"A positive MDN proves that {step.they} decrypts with {step.new}; without it, the next "
                "order is the test."
            ),
        )
    proof = {
        Role.SIGN: f"that {step.they} trusts what we sign with {step.new}",
        Role.VERIFY: f"that we verify what {step.they} signs with {step.new}",
        Role.ENCRYPT: f"that {step.they} decrypts with {step.new}",
    }
    proven = " and ".join(proof[role] for role in sort_roles(roles) if role in proof)
    return (
        f"Exchange test messages between {step.ours} and {step.they}, both ways",
        f"A positive MDN whose signature verifies shows {proven}; without it, the next order is the test.",
    )


def _release(step: StepContext) -> TitleAndReason:
    return (
        f"Release {_queue_name(step)} in {step.ours}",
        (
            "The tests have passed, so waiting messages may go; released earlier, they could all fail at "
            "once, and held longer, orders are late."
        ),
    )


def _partner_retire(step: StepContext) -> TitleAndReason:
    return (
        f"{step.they} drops {step.old}",
        (
            f"Dropped earlier, a retry or a late MDN that still uses {step.old} would fail, and we could "
            "not roll back; kept for ever, it goes on being trusted."
        ),
    )


def _retire(step: StepContext) -> TitleAndReason:
    if not step.moves:
        return (
            f"Remove {step.old} from {step.ours}",
            (
                "Nothing uses it any more; until now it was kept for the way back, and kept for ever it would be one "
                "more thing to lose."
            ),
        )
    if Role.DECRYPT in step.moves:
        return (
            f"Drop {step.old} from {step.ours}",
            (
                "The partners' retries have drained by now; dropped earlier, a message that was encrypted "
                f"to {step.old} could not be decrypted."
            ),
        )
    return (
        f"Drop {step.old} from {step.ours}",
        (
            f"Late MDNs have arrived by now; dropped earlier, one that was signed with {step.old} would "
            "fail, and our message would be sent again."
        ),
    )
