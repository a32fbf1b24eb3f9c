"""The sentences of a plan: what each step is, and why it comes when it does.

One sentence of reason per step says what goes wrong when it is made too early, too late or not at all.
"""

from dataclasses import dataclass

from rotations.planning.change import Act, CertificateChange, Effect, Move, Party, Role, System, sort_roles


@dataclass(frozen=True)
class StepContext:
    """One step as far as it is known before it has words."""

    change: CertificateChange
    act: Act
    system: System | None
    party: Party | None
    effects: tuple[Effect, ...]
    simultaneous: bool

    @property
    def old(self) -> str:
        """Name the certificate that leaves."""
        return self.change.old_name

    @property
    def new(self) -> str:
        """Name the certificate that comes."""
        return self.change.new_name

    @property
    def ours(self) -> str:
        """Name the AS2 system in which the step happens."""
        return self.system.name if self.system else "our AS2 systems"

    @property
    def they(self) -> str:
        """Name the partner whom the step concerns."""
        return self.party.name if self.party else "the partners"

    @property
    def moves(self) -> dict[Role, Move]:
        """Map the roles that the step moves to how it moves them."""
        return {effect.role: effect.move for effect in self.effects}

    @property
    def we_read_with_one(self) -> bool:
        """Return whether a system of ours must replace what it reads the partner's messages with."""
        return bool(self.change.read_by_us) and any(
            not system.holds.fits_both for system in self.change.systems
        )

    @property
    def they_read_with_one(self) -> bool:
        """Return whether the partner must replace what it reads our messages with."""
        return bool(self.change.read_by_them) and self.party is not None and not self.party.holds.fits_both


TitleAndReason = tuple[str, str]


def describe_step(scene: StepContext) -> TitleAndReason:
    """Give a step its title and, in one plain sentence, its reason."""
    if scene.change.emergency and (words := _emergency(scene)):
        return words
    match scene.act:
        case Act.CHECK:
            return _check(scene)
        case Act.STAGE:
            return _stage(scene)
        case Act.ANNOUNCE:
            return _announce_own(scene) if scene.change.side == "own" else _announce_partner(scene)
        case Act.INSTALL:
            return _install(scene)
        case Act.AGREE:
            return _agree(scene)
        case Act.HOLD:
            return _hold(scene)
        case Act.CUT_OVER:
            return _cut_over_title(scene), f"{_cut_over_reason(scene)}{_dated_system_note(scene)}"
        case Act.PARTNER_CUT_OVER:
            return _partner_cut_over_title(scene), _partner_cut_over_reason(scene)
        case Act.TEST:
            return _test(scene)
        case Act.RELEASE:
            return _release(scene)
        case Act.PARTNER_RETIRE:
            return _partner_retire(scene)
        case Act.RETIRE:
            return _retire(scene)


def _emergency(scene: StepContext) -> TitleAndReason | None:
    """Say what an emergency does otherwise; None where a step is what it always is."""
    match scene.act:
        case Act.CUT_OVER:
            return _cut_over_title(scene), (
                f"Whoever knows the key of {scene.old} can use it until nothing here does: messages with partners that "
                "have not changed yet fail from now on, and that is the lesser harm."
            )
        case Act.ANNOUNCE:
            return f"Tell {scene.they} at once that {scene.old} is not to be trusted any more", (
                f"Until {scene.they} has replaced it, our messages are rejected there, and whoever knows the key could "
                "pass for us."
            )
        case Act.PARTNER_CUT_OVER:
            return _partner_cut_over_title(scene), (
                f"Until {scene.they} has done so, messages fail, and {scene.old} is still trusted there."
            )
        case Act.RETIRE:
            return f"Remove {scene.old} from {scene.ours}", (
                "Kept for late messages, it would be kept for the intruder too; what comes late has to be sent again."
            )
    return None


def _check(scene: StepContext) -> TitleAndReason:
    return (
        f"Compare the SHA-256 of {scene.new} with {scene.they} over another channel",
        (
            f"A forged certificate would let a stranger read our messages or sign as {scene.they}, so "
            "nothing is set up before the fingerprints have been compared."
        ),
    )


def _stage(scene: StepContext) -> TitleAndReason:
    if Role.DECRYPT in scene.moves:
        return (
            f"Load {scene.new}'s key beside {scene.old} for decryption in {scene.ours}",
            (
                f"Partners may encrypt to {scene.new} as soon as they have it; if we could not decrypt "
                "with it by then, their messages would fail with decryption-failed."
            ),
        )
    return (
        f"Accept signatures of {scene.new} beside {scene.old} in {scene.ours}",
        (
            f"{scene.new} must be accepted before it is used, or the messages and MDNs that it signs are "
            "rejected here and our messages are sent again."
        ),
    )


def _announce_own(scene: StepContext) -> TitleAndReason:
    holder = f" of {scene.change.holder_name}" if scene.change.holder_name else ""
    title = f"Send {scene.new}{holder} with its SHA-256 to {scene.they}"
    if scene.we_read_with_one:
        return title, (
            f"{scene.they} needs {scene.new} at hand before the window, but must not use it earlier: our "
            "system holds one certificate and could not decrypt."
        )
    if scene.they_read_with_one:
        return title, (
            f"{scene.they} needs {scene.new} at hand before the window, but holds one certificate: if it "
            f"saves {scene.new} earlier, it rejects what we still sign with {scene.old}."
        )
    if scene.change.read_by_us:
        return title, (
            f"Our system already decrypts with both, so {scene.they} may encrypt to {scene.new} at once; "
            f"sent earlier, its messages would have failed, and sent late, {scene.old} may end first."
        )
    return title, (
        f"{scene.they} rejects what we sign with {scene.new} until it has added it, so it needs "
        f"{scene.new} well before the window."
    )


def _announce_partner(scene: StepContext) -> TitleAndReason:
    if scene.we_read_with_one:
        return (
            f"Tell {scene.they} that we change to {scene.new} in the window",
            (
                f"Not all of our systems accept two certificates, so messages and MDNs that {scene.they} "
                f"signs with {scene.new} before the window are rejected."
            ),
        )
    return (
        f"Tell {scene.they} that we accept {scene.new}",
        (
            f"We accept both certificates now; {scene.they} waits for this word, because signing with "
            f"{scene.new} before it would have failed here."
        ),
    )


def _install(scene: StepContext) -> TitleAndReason:
    if scene.change.side == "own":
        return (
            (
                f"{scene.they} adds {scene.new} beside {scene.old}, for messages and MDNs, and confirms "
                "the fingerprint"
            ),
            (
                f"If we sign with {scene.new} before {scene.they} accepts it, our messages get "
                f"authentication-failed and our MDNs don't verify, so {scene.they} sends again what we "
                "already processed."
            ),
        )
    return (
        f"{scene.they} loads {scene.new}'s key beside {scene.old} and says so",
        (
            f"If we encrypt to {scene.new} before {scene.they} has its key, our messages fail with "
            f"decryption-failed, and only {scene.they} can tell us that it has."
        ),
    )


def _agree(scene: StepContext) -> TitleAndReason:
    holder = scene.they if scene.they_read_with_one else "our side"
    return (
        f"{scene.they} agrees to the window",
        (
            f"One certificate is all that {holder} can hold, so both sides change together: whoever moves "
            "without the other causes failed messages until the other has moved too."
        ),
    )


def _queue_name(scene: StepContext) -> str:
    """Name the queue that is held: all that leaves a system, or what goes to one partner."""
    return f"our outbound queue to {scene.they}" if scene.party else "our outbound queue"


def _hold(scene: StepContext) -> TitleAndReason:
    return (
        f"Pause {_queue_name(scene)} in {scene.ours}",
        (
            "What we send while the two sides change could be rejected or answered with an MDN that does "
            "not verify; paused late, asynchronous MDNs are still on their way when the certificates "
            "change."
        ),
    )


def _cut_over_title(scene: StepContext) -> str:
    if scene.change.per_partner:
        to_whom = f"to {scene.they}" if scene.party else "by default"
        return f"Sign {to_whom} with {scene.new} in {scene.ours}"
    match scene.moves:
        case {Role.SIGN: _, Role.DECRYPT: _}:
            return f"Sign and decrypt with {scene.new} instead of {scene.old} in {scene.ours}"
        case {Role.ENCRYPT: _, Role.VERIFY: _}:
            return f"Encrypt to {scene.new} and verify with it instead of {scene.old} in {scene.ours}"
        case {Role.SIGN: _}:
            return f"Sign messages and MDNs with {scene.new} in {scene.ours}"
        case {Role.ENCRYPT: _}:
            return f"Encrypt to {scene.new} in {scene.ours}"
        case {Role.DECRYPT: _}:
            return f"Decrypt with {scene.new} instead of {scene.old} in {scene.ours}"
        case _:
            return f"Verify with {scene.new} instead of {scene.old} in {scene.ours}"


def _cut_over_reason(scene: StepContext) -> str:
    if scene.simultaneous:
        return (
            "Both sides change in the same window because one of them holds one certificate only: earlier or "
            "later than the other side, messages fail until it has moved too."
        )
    if scene.change.per_partner:
        return _per_partner_reason(scene)
    if Role.SIGN in scene.moves:
        return (
            f"The partners accept {scene.new} by now; earlier, our messages get authentication-failed and "
            f"our MDNs don't verify, and later than the end of {scene.old}, partners may reject what it "
            "signs."
        )
    return (
        f"The partner decrypts with {scene.new} by now; earlier, our messages fail with decryption-failed, "
        f"and too late, the partner has dropped {scene.old}; messages queued for a retry must be encrypted "
        "again."
    )


def _dated_system_note(scene: StepContext) -> str:
    """Say that nobody has to be there at the moment, where a person serves a system that takes dates."""
    if scene.system is None or scene.system.automatic or not scene.system.dated:
        return ""
    return (
        f" {scene.ours} takes dates: once everybody is ready, enter the beginning of the window as the date from which "
        f"{scene.new} is used, and record this when it is in use."
    )


def _per_partner_reason(scene: StepContext) -> str:
    if scene.party is None:
        return (
            f"Every partner that takes part is signed to with {scene.new} by now; earlier, those that do not accept it "
            f"yet would get it too, and left out, {scene.old} would go on signing for everybody else until its end."
        )
    return (
        f"{scene.they} accepts {scene.new} by now, whatever the others do; earlier, our messages get "
        f"authentication-failed and our MDNs don't verify, and later than the end of {scene.old}, {scene.they} may "
        "reject what it signs."
    )


def _partner_cut_over_title(scene: StepContext) -> str:
    match scene.moves:
        case {Role.SIGN: _, Role.DECRYPT: _}:
            return f"{scene.they} verifies with and encrypts to {scene.new} instead of {scene.old}"
        case {Role.ENCRYPT: _, Role.VERIFY: _}:
            return f"{scene.they} signs and decrypts with {scene.new} instead of {scene.old}"
        case {Role.SIGN: _}:
            return f"{scene.they} verifies with {scene.new} instead of {scene.old}"
        case {Role.ENCRYPT: _}:
            return f"{scene.they} decrypts with {scene.new} instead of {scene.old}"
        case {Role.DECRYPT: _}:
            return f"{scene.they} encrypts to {scene.new}"
        case _:
            return f"{scene.they} signs with {scene.new}"


def _partner_cut_over_reason(scene: StepContext) -> str:
    if scene.simultaneous:
        return (
            f"{scene.they} pauses its queue and changes in the same window as we do: earlier or later, "
            "messages fail until the other side has moved too."
        )
    return (
        f"We accept both certificates, so {scene.they} switches when it likes; the first message that uses "
        f"{scene.new} shows that it has, and until then {scene.old} has to stay."
    )


def _test(scene: StepContext) -> TitleAndReason:
    roles = scene.change.roles
    if roles == {Role.DECRYPT}:
        return (
            f"Have {scene.they} send a test message to {scene.ours}",
            (
                f"Only an inbound message shows that {scene.they} encrypts to {scene.new} and that we "
                "decrypt it; without it, the next order is the test."
            ),
        )
    if roles == {Role.ENCRYPT}:
        return (
            f"Send a test message from {scene.ours} to {scene.they}",
            (
                f"A positive MDN proves that {scene.they} decrypts with {scene.new}; without it, the next "
                "order is the test."
            ),
        )
    proof = {
        Role.SIGN: f"that {scene.they} trusts what we sign with {scene.new}",
        Role.VERIFY: f"that we verify what {scene.they} signs with {scene.new}",
        Role.ENCRYPT: f"that {scene.they} decrypts with {scene.new}",
    }
    proven = " and ".join(proof[role] for role in sort_roles(roles) if role in proof)
    return (
        f"Exchange test messages between {scene.ours} and {scene.they}, both ways",
        f"A positive MDN whose signature verifies shows {proven}; without it, the next order is the test.",
    )


def _release(scene: StepContext) -> TitleAndReason:
    return (
        f"Release {_queue_name(scene)} in {scene.ours}",
        (
            "The tests have passed, so waiting messages may go; released earlier, they could all fail at "
            "once, and held longer, orders are late."
        ),
    )


def _partner_retire(scene: StepContext) -> TitleAndReason:
    return (
        f"{scene.they} drops {scene.old}",
        (
            f"Dropped earlier, a retry or a late MDN that still uses {scene.old} would fail, and we could "
            "not roll back; kept for ever, it goes on being trusted."
        ),
    )


def _retire(scene: StepContext) -> TitleAndReason:
    if not scene.moves:
        return (
            f"Remove {scene.old} from {scene.ours}",
            (
                "Nothing uses it any more; until now it was kept for the way back, and kept for ever it would be one "
                "more thing to lose."
            ),
        )
    if Role.DECRYPT in scene.moves:
        return (
            f"Drop {scene.old} from {scene.ours}",
            (
                "The partners' retries have drained by now; dropped earlier, a message that was encrypted "
                f"to {scene.old} could not be decrypted."
            ),
        )
    return (
        f"Drop {scene.old} from {scene.ours}",
        (
            f"Late MDNs have arrived by now; dropped earlier, one that was signed with {scene.old} would "
            "fail, and our message would be sent again."
        ),
    )
