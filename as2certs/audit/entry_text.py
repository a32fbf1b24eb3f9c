"""Put entries of the trail into words for our own people: what a verb means, and which values changed.

Partners read a list of their own, of the few verbs that concern them: ``rotations/web/portal/history.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.time_format import format_exact_moment

#: Verbs whose text is not simply "<past participle> the <noun>".
VERB_TEXTS = {
    "person.logged_in": "logged in",
    "person.logged_out": "logged out",
    "person.login_failed": "tried to log in, in vain",
    "person.password_changed": "changed the password",
    "person.password_refused": "gave a wrong password to change it",
    "person.confirmed": "confirmed that it is them",
    "person.confirmation_refused": "gave a wrong password to confirm that it is them",
    "person.code_refused": "gave a wrong code of the second factor",
    "person.second_factor_added": "added a second factor",
    "person.second_factor_removed": "removed a second factor",
    "person.second_factor_reset": "took the second factor away",
    "person.roles_set": "set the roles by single sign-on",
    "person.sign_on_refused": "was refused by single sign-on",
    "person.sign_on_linked": "linked the person to single sign-on",
    "person.sign_on_unlinked": "took single sign-on from the person",
    "person.recovery_codes_made": "made new recovery codes",
    "person.recovery_code_used": "used a recovery code",
    "installation.four_eyes_off_asked": "asked to switch four eyes off",
    "installation.four_eyes_off": "switched four eyes off",
    "installation.four_eyes_kept": "left four eyes as they are",
    "user.password_set": "set a new password",
    "rotation.set_up": "set up the rotation",
    "rotation.approve": "approved the rotation",
    "rotation.ready": "found everybody ready",
    "rotation.unready": "found somebody not ready any more",
    "rotation.postpone": "postponed the rotation",
    "rotation.begin": "began to apply the rotation",
    "rotation.finish": "finished applying the rotation",
    "rotation.take_one_partner_back": "took the rotation up again, since one partner went back",
    "rotation.moment_came": "found that the moment had come",
    "rotation.emergency": "declared an emergency, and let everything be changed at once",
    "rotation.roll_back": "began to roll the rotation back",
    "rotation.rolled_back": "rolled the rotation back",
    "rotation.close": "closed the rotation",
    "rotation.cancel": "cancelled the rotation",
    "rotation.rehearsal_named": "named the rehearsal of the rotation",
    "rotation.rehearsal_waived": "let the rotation go on without a rehearsal",
    "rotation.successor_ready": "made the successor ready",
    "step.done": "completed a step",
    "step.skipped": "left out a step",
    "step.repeat_requested": "asked to notify the AS2 system of a step again",
    "step.repeated": "notified the AS2 system of a step again",
    "step.failed": "failed at a step",
    "step.retried": "let a step be tried again",
    "participant.confirmed": "noted a partner’s word",
    "participant.probe_accepted": "found by a test message that the partner accepts the new certificate",
    "participant.probe_refused": "found by a test message that the partner does not accept the new certificate",
    "participant.agreed": "counted a partner as agreeing to the window",
    "participant.waived": "went on without a partner’s word",
    "participant.removed": "left a partner out",
    "participant.restored": "let a partner take part again",
    "participant.announced": "told the partner",
    "participant.warned": "warned the partner that the old certificate goes",
    "partner.seen": "noted a message of the partner",
    "partner.seen_dismissed": "dismissed a certificate that a message of the partner used",
    "partner.seen_early": "counted an earlier message of the partner",
    "participant.nudged": "reminded the partner to answer",
    "participant.escalated": "told our people that the partner does not answer",
    "participant.extended": "gave the partner more time",
    "participant.fetched": "fetched the link of the partner’s page",
    "participant.file_fetched": "fetched the link of the certificate",
    "participant.opened": "opened the partner’s page",
    "participant.downloaded": "downloaded the certificate",
    "participant.proposed": "proposed another time",
    "participant.proposal_refused": "stayed with the window",
    "rotation.move_one_partner": "gave one partner a moment of its own",
    "participant.moved": "gave the partner a moment of its own",
    "participant.taken_back": "went back to the old certificate with the partner alone",
    "participant.declined": "said no",
    "participant.switched": "said that they switched",
    "participant.slots": "said at which times they can",
    "participant.capability_stated": "said what the partner’s system can hold",
    "participant.capability_accepted": "took over what the partner said of its system",
    "participant.capability_left": "left what the partner said of its system aside",
    "partner.capability_observed": "took over what a past change showed of the partner’s system",
    "rotation.withdraw_the_approval": "withdrew the rotation’s approval by a change",
    "rotation.approve_again": "approved the changed rotation again",
    "rotation.replanned": "put another plan in the place of the rotation’s",
    "rotation.plan_kept": "left the rotation’s plan as it is",
    "participant.works": "said that it works",
    "participant.does_not_work": "said that it does not work",
    "rotation.ladder_set": "changed when partners are reminded",
    "rotation.slots_withdrawn": "offered no times any more",
    "rotation.slot_taken": "stayed with the window, which suits most",
    "rotation.slots_offered": "offered times to choose from",
    "phrase.created": "wrote wording of our own",
    "phrase.changed": "changed the wording",
    "phrase.reset": "went back to the wording behind it",
    "link.made": "made a link to the partner’s page",
    "link.revoked": "withdrew a link to the partner’s page",
    "mail.bounced": "noted that the mail came back",
    "contact.suggested": "named a colleague",
    "contact.taken_on": "took on the contact that the partner named",
    "contact.dismissed": "dismissed the contact that the partner named",
    "contact.confirmation_taken_back": "took the confirmation of the contact back",
    "contact.bounced": "noted that mail to the contact comes back",
    "contact.reminders_stopped": "stopped reminders to the contact",
    "user.reminders_stopped": "stopped reminders to the person",
    "contact.works_again": "noted that the address of the contact works again",
    "certificate.handed_in": "handed in the certificate",
    "certificate.accepted": "accepted the certificate that was handed in",
    "certificate.accepted_by_rule": "accepted the certificate that was handed in, by the partner’s rule",
    "certificate.refused": "refused the certificate that was handed in",
    "rotation.successor_refused": "refused the successor",
    "partner.asked": "asked for the partner’s new certificate",
    "partner.key_thrown_away": "sent a private key, which was thrown away",
    "inventory.imported": "brought in a list of partners",
    "certificate.taken_in": "took in the certificate",
    "certificate.warnings_accepted": "imported the certificate despite warnings",
    "certificate.expired_accepted": "recorded the expired certificate as in use",
    "certificate.key_added": "took in the private key of the certificate",
    "certificate.in_service": "put the certificate into service",
    "key.opened": "opened the private key",
    "key.requested": "asked for a new key",
    "key.generated": "generated the key",
    "key.failed": "could not generate the key",
    "key.exported": "took the private key out",
    "system.checked": "checked the AS2 system",
    "system.comparison_requested": "asked to compare the certificates in use with the AS2 system again",
    "system.baseline_written": "wrote the certificates in use to the AS2 system",
    "system.comparison_failed": "could not compare the certificates in use with the AS2 system",
    "system.difference_found": "found that the AS2 system uses other certificates than the inventory says",
    "certificate.adopted": "put the certificate into service, as the AS2 system uses it",
    "partnership.probes_allowed": "allowed test messages to the partner",
    "partnership.probes_forbidden": "forbade test messages to the partner",
    "partnership.probes_scheduled": "changed the regular test messages to the partner",
    "probe.requested": "requested a test message to the partner",
    "probe.judged": "stored what a test message to the partner showed",
    "probe.received": "received a test message from the partner",
    "probe.mdn_late": "received the MDN of a test message too late",
    "probe.failed": "could not send a test message to the partner",
    "vault.resealed": "sealed all private keys again",
    "mail.sent_again": "sent the mail again",
    "mail.withdrawn": "withdrew the mail, since it was no longer true",
    "trail.exported": "exported the trail",
    "trail.cut": "removed the oldest entries of the trail",
    "trail.broken": "found the end of the trail tampered with",
}


def _confirmation(new: Mapping[str, Any]) -> str:
    has_it = {"strong": "has it", "weak": "says that it has it"}.get(str(new.get("evidence")))
    return has_it or ("agrees to the window" if new.get("agreed") else "")


def _slots(new: Mapping[str, Any]) -> str:
    can = new.get("can")
    return f"can at {f'{len(can)} of' if isinstance(can, list) else 'none of'} the offered times"


#: The answers of partners, as the present state of one: verb → text for the values of the entry.
RESPONSE_TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "participant.confirmed": _confirmation,
    "participant.probe_accepted": lambda new: "accepted a test message",
    "participant.agreed": lambda new: "agrees to the window",
    "participant.proposed": lambda new: "would rather have another time",
    "participant.declined": lambda new: "says no",
    "participant.slots": _slots,
    "participant.capability_stated": lambda new: f"says of its system: {new.get('says', '')}",
    "participant.works": lambda new: "says that it works",
    "participant.does_not_work": lambda new: "reports that it does not work",
}
NOUN_TEXTS = {"as2system": "AS2 system", "user": "person", "installation": "settings"}
#: Values for programs only.
HIDDEN_FIELDS = frozenset({"step"})
_ISO_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class ChangedValue:
    """One value of an entry; ``had_old`` if it replaced another one."""

    name: str
    old: str
    new: str
    had_old: bool


def verb_text(verb: str) -> str:
    """Return the words that follow the actor's name: "identity.archived" → "archived the identity"."""
    if verb in VERB_TEXTS:
        return VERB_TEXTS[verb]
    noun, _, participle = verb.partition(".")
    return f"{participle} the {NOUN_TEXTS.get(noun, noun)}".replace("_", " ")


def changed_values(entry: Entry, zone: str) -> list[ChangedValue]:
    """Return the values that an entry says were changed, with moments on the clock of a zone."""
    changes = []
    for name, value in entry.new.items():
        if name in HIDDEN_FIELDS or (name == "late" and not value):
            continue
        old = entry.old.get(name)
        if name in entry.old and old == value:
            continue  # such as the state of a rotation whose approval is withdrawn
        label = "" if name == "title" else name.replace("_", " ")
        old_text, new_text = (_format_value(name, each, zone) for each in (old, value))
        changes.append(ChangedValue(label, old_text, new_text, name in entry.old))
    return changes


def _format_value(name: str, value: Any, zone: str) -> str:
    if value is None or value == "" or value == []:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_format_value(key, item, zone)}" for key, item in value.items())
    if isinstance(value, str):
        return _format_text(name, value, zone)
    if isinstance(value, Iterable):
        return ", ".join(_format_value(name, item, zone) for item in value)
    return str(value)


def _format_text(name: str, value: str, zone: str) -> str:
    if name in ("state", "verdict"):
        return value.replace("_", " ").replace("-", " ")
    if name == "sha256" and re.fullmatch(r"[0-9a-f]{64}", value):
        return pki.short_fingerprint(value)
    if _ISO_MOMENT.fullmatch(value):
        return format_exact_moment(datetime.fromisoformat(value.replace("Z", "+00:00")), zone)
    return value
