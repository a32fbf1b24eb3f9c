"""What must be so after a burst, counted by SQL of its own: each change once, at its moment, in the trail and told."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.site import Site

#: The rotations in the mails about changes: of one, or of several together.
TOLD = """
    SELECT facts->>'rotation' AS uid FROM mail_message WHERE kind = 'applied' AND facts ? 'rotation'
    UNION ALL SELECT change->>0 FROM mail_message, jsonb_array_elements(facts->'changes') AS change
    WHERE kind = 'applied'"""

#: Each counts what there must be as often as there are rotations.
AS_MANY = {
    "cut-overs that are done": "SELECT count(*) FROM rotations_step WHERE act = 'cut_over' AND state = 'done'",
    "cut-overs in the trail": "SELECT count(*) FROM audit_entry WHERE verb = 'step.done'",
    "distinct cut-overs in the trail": """
        SELECT count(DISTINCT s.id) FROM rotations_step s JOIN audit_entry e ON e.key = 'step:' || s.uid
        WHERE s.act = 'cut_over' AND e.at = s.done_at""",
    "rotations that are applied": "SELECT count(*) FROM rotations_rotation WHERE applied_at IS NOT NULL",
    "changes told of in mails": f"SELECT count(*) FROM ({TOLD}) AS told",  # noqa: S608  # a query of ours
    "rotations told of in a mail": f"SELECT count(DISTINCT told.uid) FROM ({TOLD}) AS told",  # noqa: S608
}

#: Each counts what there must not be.
NONE = {
    "cut-overs were done early": "SELECT count(*) FROM rotations_step WHERE done_at < earliest_at",
    "identities are not served by the new certificate alone": """
        SELECT count(*) FROM rotations_rotation r WHERE ARRAY['decrypt', 'sign'] IS DISTINCT FROM (
            SELECT array_agg(s.role::text ORDER BY s.role) FROM identities_identityservice s
            WHERE s.identity_id = r.identity_id AND s.ends_at IS NULL
            AND s.certificate_id = r.new_identity_certificate_id)
        OR 2 <> (SELECT count(*) FROM identities_identityservice s
            WHERE s.identity_id = r.identity_id AND s.ends_at IS NULL)""",
    "roles have a gap or a double where the old certificate gave way": """
        SELECT count(*) FROM identities_identityservice n
        JOIN rotations_rotation r ON n.certificate_id = r.new_identity_certificate_id
        WHERE 1 <> (SELECT count(*) FROM identities_identityservice o WHERE o.identity_id = n.identity_id
            AND o.role = n.role AND o.certificate_id = r.old_identity_certificate_id
            AND o.ends_at = n.starts_at)""",
}


def counted(site: Site, rotations: int) -> Iterator[str]:
    """Say in words what is not so."""
    for what, query in AS_MANY.items():
        if (found := site.sql(query)[0][0]) != rotations:
            yield f"{what}: {found}, not {rotations}"
    for what, query in NONE.items():
        if found := site.sql(query)[0][0]:
            yield f"{found} {what}"


def lateness(site: Site) -> list[float]:
    """Return how many seconds after its moment each cut-over was settled, in the order of settling."""
    query = """
        SELECT extract(epoch FROM done_at - earliest_at)::float8 FROM rotations_step
        WHERE act = 'cut_over' AND state = 'done' ORDER BY done_at, id"""
    return [late for (late,) in site.sql(query)]


def unreported(site: Site) -> int:
    """Return of how many changes people have still to be notified."""
    return int(site.sql("SELECT count(*) FROM rotations_appliedchange")[0][0])


def done(site: Site) -> int:
    return int(site.sql("SELECT count(*) FROM rotations_step WHERE act = 'cut_over' AND state = 'done'")[0][0])
