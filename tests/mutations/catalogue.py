"""The mutations: each breaks one important rule, and names the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One change that breaks a rule: ``old``, found exactly once in ``file``, becomes ``new``."""

    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, text: str) -> str:
        """Return the text of the file with the rule broken. Raises ValueError unless ``old`` occurs exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file}: {self.old!r} occurs {count} times: adapt the mutation “{self.rule}”.")
        return text.replace(self.old, self.new)


MUTATIONS = (
    Mutation(
        "a step is never carried out early",
        "rotations/models/rotation.py",
        "due_at__lte=now)",
        "due_at__lte=now + timedelta(minutes=5))",
        ("tests/rotations/execution/test_whole_rotation.py",),
    ),
    Mutation(
        "a step whose lease has expired is claimed again",
        "rotations/models/rotation.py",
        "lease_until__lt=now)",
        "lease_until__lt=now - timedelta(days=1))",
        ("tests/rotations/execution",),
    ),
    Mutation(
        "a reminder goes out once per threshold and address",
        "rotations/reminders.py",
        "if one.threshold < sent.get((key, reader.key), one.threshold + 1)]",
        "if one.threshold <= sent.get((key, reader.key), one.threshold + 1)]",
        ("tests/rotations/test_reminders.py",),
    ),
    Mutation(
        "only the hash of a link's token is stored",
        "rotations/letters/access_links.py",
        'return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()',
        "return token",
        ("tests/rotations/web/portal/test_security.py", "tests/rotations/letters"),
    ),
    Mutation(
        "four eyes: whoever changed a rotation can't approve it",
        "rotations/lifecycle/four_eyes.py",
        "if by.user in changers:",
        "if False:",
        ("tests/rotations/lifecycle/test_four_eyes.py",),
    ),
    Mutation(
        "four eyes: a change withdraws the approval",
        "rotations/lifecycle/four_eyes.py",
        "        if not is_required(rotation):\n            return\n        rotation.changed_by.clear()",
        "        return\n        rotation.changed_by.clear()",
        ("tests/rotations/lifecycle/test_four_eyes.py",),
    ),
    Mutation(
        "four eyes: a rotation that they bound stays bound",
        "as2certs/accounts/models.py",
        "        return since is not None and until is not None and since <= until",
        "        return False",
        ("tests/rotations/lifecycle/test_four_eyes.py",),
    ),
    Mutation(
        "the first vault key seals",
        "as2certs/pki/vault.py",
        "for position, key in enumerate(keys, start=1)]",
        "for position, key in reversed([*enumerate(keys, start=1)])]",
        ("tests/pki/test_vault.py",),
    ),
    Mutation(
        "a page asks for the permission of its role",
        "as2certs/accounts/access.py",
        "if not request.user.has_perms(permissions):",
        "if False:",
        ("tests/test_rights.py",),
    ),
    Mutation(
        "a local time in the gap of a clock change is refused",
        "rotations/planning/windows.py",
        "if earlier > later:",
        "if False:",
        ("tests/rotations/planning/test_windows.py",),
    ),
    Mutation(
        "the old certificate is retired last",
        "rotations/planning/plan.py",
        "                after=before(system),\n",
        "                after=[],\n",
        ("tests/rotations/planning/test_plan.py", "tests/rotations/planning/test_plan_properties.py"),
    ),
    Mutation(
        "an entry of the trail continues the chain",
        "as2certs/audit/verification.py",
        'if follows and entry["previous"] != self.end.hash and not self._previous_is_wrong:',
        "if False:",
        ("tests/audit/test_verification.py",),
    ),
    Mutation(
        "the signature of an entry of the trail is verified",
        "as2certs/audit/verification.py",
        'return self._signer.verify(entry_message(entry["hash"]), entry["signature"], by)',
        "return True",
        ("tests/audit/test_verification.py",),
    ),
    Mutation(
        "a partner's file with a private key is refused",
        "as2certs/pki/containers.py",
        "    if presence is KeyPresence.CERTAIN:\n        raise PrivateKeyFound(PRIVATE_KEY_FOUND_MESSAGE)\n",
        "",
        ("tests/pki/test_reading.py", "tests/pki/test_bad_input.py", "tests/attack/test_uploads.py"),
    ),
    Mutation(
        "a cell of a CSV export is no formula",
        "as2certs/audit/exporting.py",
        'text[:1] in ("=", "+", "-", "@", "\\t", "\\r")',
        'text[:1] in ("+", "-", "@", "\\t", "\\r")',
        ("tests/audit/test_exporting.py",),
    ),
    Mutation(
        "X-Forwarded-For counts only from our proxies",
        "as2certs/audit/recording.py",
        "and peer is not None and _is_our_proxy(peer):",
        "and peer is not None:",
        ("tests/audit/test_address.py",),
    ),
    Mutation(
        "too many wrong passwords lock a login",
        "as2certs/accounts/throttling.py",
        "if user is not None and is_password_throttled(user, address=address, now=now):",
        "if False:",
        ("tests/accounts/test_login.py", "tests/attack/test_passwords.py"),
    ),
    Mutation(
        "many wrong passwords slow an address",
        "as2certs/accounts/throttling.py",
        "    return user is None or not _is_known(user, network=network, now=now)",
        "    return False",
        ("tests/attack/test_passwords.py",),
    ),
    Mutation(
        "another administrator agrees to switch four eyes off",
        "as2certs/accounts/four_eyes_setting.py",
        "    if by.user is None or by.user == asker:",
        "    if False:",
        ("tests/accounts/test_four_eyes_setting.py",),
    ),
    Mutation(
        "a process that ended is started again",
        "as2certs/supervisor.py",
        "                if now >= process.again_at:",
        "                if False:",
        ("tests/ground/test_supervisor.py",),
    ),
    Mutation(
        "a private key is exported after a confirmation only",
        "as2certs/accounts/reauthentication.py",
        "        if not is_recently_confirmed(request):",
        "        if False:",
        ("tests/accounts/test_taking_a_key_out.py",),
    ),
    Mutation(
        "a folder of an AS2 system has no .. in it",
        "identities/connectors/station_folder.py",
        'any(part in ("", ".", "..") or',
        'any(part in ("", ".") or',
        ("tests/identities/connectors/test_paths.py",),
    ),
    Mutation(
        "a folder of an AS2 system is no symbolic link",
        "identities/connectors/station_folder.py",
        "if path.is_symlink() or (path.exists() and not path.is_dir()):",
        "if path.exists() and not path.is_dir():",
        ("tests/identities/connectors/test_paths.py",),
    ),
    Mutation(
        "a written private key is readable by its owner only",
        "identities/connectors/release_files.py",
        "SECRET_MODE = 0o600",
        "SECRET_MODE = 0o640",
        ("tests/identities/connectors/test_directory.py",),
    ),
    Mutation(
        "an exported PKCS#12 hashes its password often",
        "as2certs/pki/exporting.py",
        "rounds: int = 100_000",
        "rounds: int = 1_000",
        ("tests/pki/test_exporting.py",),
    ),
    Mutation(
        "many wrong tokens lock an address out of the partners' pages",
        "rotations/web/portal/rate_limit.py",
        "if _recent_count(_wrong_token_key(address), now=now) >= MAX_WRONG_TOKENS:",
        "if False:",
        ("tests/rotations/web/portal/test_security.py",),
    ),
    Mutation(
        "no log line shows a token",
        "as2certs/logs.py",
        'return _TOKEN.sub(r"\\1•••", text)',
        "return text",
        ("tests/rotations/web/portal/test_logs.py",),
    ),
    Mutation(
        "nothing further is begun once an approval is withdrawn",
        "rotations/execution/preconditions.py",
        ".exclude(unapproved)",
        "",
        ("tests/rotations/lifecycle/test_four_eyes.py", "tests/rotations/execution/test_preconditions.py"),
    ),
    Mutation(
        "a mail whose delivery was never answered is not sent for ever",
        "as2certs/mail/outbox.py",
        "unsure and message.unanswered + 1 >= MAX_UNANSWERED",
        "False",
        ("tests/mail/test_real_servers.py",),
    ),
    Mutation(
        "a hook's output shows no password",
        "identities/connectors/hooks.py",
        'text = text.replace(secret, "********")',
        "pass",
        ("tests/identities/connectors/test_hooks.py",),
    ),
    Mutation(
        "an administrator can't change a superuser",
        "as2certs/accounts/admin.py",
        "if obj.is_superuser or any(",
        "if any(",
        ("tests/attack/test_admin_rights.py",),
    ),
    Mutation(
        "the database keeps a reminder from being sent twice",
        "rotations/migrations/0001_initial.py",
        'fields=("identity_certificate", "threshold", "recipient"),',
        'fields=("identity_certificate", "threshold", "recipient", "at"),',
        ("tests/rotations/test_reminders_for_real.py",),
    ),
    Mutation(
        "no cut-over is made after its window",
        "rotations/execution/preconditions.py",
        "if step.latest_at is not None and step.is_window_over(now):",
        "if False:",
        ("tests/rotations/execution/test_preconditions.py",),
    ),
    Mutation(
        "no cut-over is made to a successor that is not valid yet",
        "rotations/execution/preconditions.py",
        " or (now < new.not_before and step.act == Act.CUT_OVER):",
        ":",
        ("tests/rotations/execution/test_preconditions.py",),
    ),
    Mutation(
        "a write to an AS2 system counts only once it is read back",
        "rotations/execution/connector_steps.py",
        "    return replace(result, in_use=read.in_use) if read.outcome.good else read\n",
        "    return replace(result, in_use=read.in_use)\n",
        ("tests/rotations/execution",),
    ),
    Mutation(
        "a change waits for every partner",
        "rotations/execution/preconditions.py",
        "due = due.exclude(not_ready & ~for_one)",
        "due = due.exclude(not_ready & for_one)",
        (
            "tests/rotations/execution/test_preconditions.py",
            "tests/rotations/execution/test_whole_rotation.py",
        ),
    ),
    Mutation(
        "the fingerprint of another certificate confirms nothing",
        "rotations/execution/confirmations.py",
        "if fingerprint in (new.sha256, new.sha1):",
        "if fingerprint:",
        ("tests/rotations/web/portal/test_answers.py",),
    ),
    Mutation(
        "an answer on an outdated page is refused",
        "rotations/execution/version_token.py",
        "    if seen != current:",
        "    if False:",
        (
            "tests/rotations/execution/test_version_token.py",
            "tests/rotations/web/portal/test_outdated_page.py",
        ),
    ),
    Mutation(
        "a page accepts only what its partner may answer now",
        "rotations/exchange/responses.py",
        "    if answer not in found.answers:",
        "    if False:",
        ("tests/rotations/web/portal/test_answers.py",),
    ),
    Mutation(
        "nothing is asked of a partner before all that comes before is done, directly or through others",
        "rotations/execution/transitions.py",
        "return step.state not in SETTLED or self.precede(step)",
        "return step.state not in SETTLED",
        ("tests/rotations/statements",),
    ),
    Mutation(
        "a partner that changes with us waits while a step of ours comes first",
        "rotations/planning/partner_actions.py",
        "    return it.now >= it.starts and any(step.blocked for step in waiting)",
        "    return False",
        ("tests/rotations/planning/test_partner_actions.py",),
    ),
    Mutation(
        "a page says nowhere that we read both before we do",
        "rotations/planning/partner_actions.py",
        "    return any(step.blocked and not step.simultaneous for step in it.open_of(Act.PARTNER_CUT_OVER))",
        "    return False",
        ("tests/rotations/planning/test_partner_actions.py",),
    ),
    Mutation(
        "a partner that has moved is not warned that nothing shows it",
        "rotations/lifecycle/evidence/changeover.py",
        "if all(step.act == Act.TEST for step in open_steps) and participant.has_moved():",
        "if False:",
        ("tests/rotations/lifecycle/test_changeover_evidence.py",),
    ),
    Mutation(
        "a test message that a killed worker had begun to send is not sent again",
        "partners/probes/sending.py",
        "    if probe.sent_at is not None:\n",
        "    if False:\n",
        ("tests/partners/probes/test_sending.py",),
    ),
    Mutation(
        "a test message that is not accepted contradicts only what was confirmed before",
        "rotations/models/rotation.py",
        "return refused is not None and confirmed is not None and refused >= confirmed",
        "return refused is not None",
        ("tests/rotations/lifecycle/test_probe_evidence.py",),
    ),
    Mutation(
        "a certificate whose key does not fit is not approved",
        "rotations/lifecycle/approval.py",
        "    drafts.check_pair(rotation, by=by, now=now)\n",
        "",
        ("tests/rotations/lifecycle/test_drafts.py",),
    ),
    Mutation(
        "a signature holds for the content that was signed only",
        "as2certs/as2/cms/signing.py",
        "if not hmac.compare_digest(expected, compute_digest(content, self.digest)):",
        "if False:",
        ("tests/as2/test_cms.py",),
    ),
    Mutation(
        "a certificate inside a signature proves nothing about who signed",
        "as2certs/as2/cms/signing.py",
        "signer.digest, bool(known))",
        "signer.digest, True)",
        ("tests/as2/test_cms.py", "tests/as2/test_judging.py"),
    ),
    Mutation(
        "each failure to decrypt is answered alike",
        "as2certs/as2/receiving.py",
        "if isinstance(error, MalformedMessage) and self.inbound.decrypted_for:",
        "if False:",
        ("tests/as2/test_messages.py",),
    ),
    Mutation(
        "test messages are sent to public addresses only",
        "as2certs/as2/addresses.py",
        "return not any(plain in network for network in _NOT_PUBLIC)",
        "return True",
        ("tests/as2/test_sending.py",),
    ),
    Mutation(
        "what may have arrived is not sent again",
        "as2certs/as2/judging.py",
        "if outcome.is_request_sent:",
        "if False:",
        ("tests/as2/test_judging.py",),
    ),
    Mutation(
        "a success that is not proven is not confirmed",
        "as2certs/as2/judging.py",
        "if doubt:",
        "if False:",
        ("tests/as2/test_judging.py",),
    ),
    Mutation(
        "what an AS2 system writes with has to be exactly the certificate of the inventory",
        "identities/connectors/use.py",
        "if not expected <= use.in_use <= allowed:",
        "if not expected <= use.in_use:",
        ("tests/identities/connectors/test_use.py",),
    ),
    Mutation(
        "a comparison during which a step began counts for nothing",
        "partners/baselines.py",
        "if found.differences and _has_moved_on(row, baseline, now=clock()):",
        "if False:",
        ("tests/partners/test_baselines.py",),
    ),
    Mutation(
        "a system that can't be read hides no difference",
        "partners/baselines.py",
        '"failing_since": row.failing_since or now,',
        '"failing_since": row.failing_since or now, "differs_since": None,',
        ("tests/partners/test_baselines.py",),
    ),
    Mutation(
        "one of ours is adopted only with its private key",
        "partners/adoption.py",
        "if isinstance(holder, Identity) and (",
        "if not holder and (",
        ("tests/partners/test_adoption.py",),
    ),
)
