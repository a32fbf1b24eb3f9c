"""What the tests say of AS2 systems: fields of ``identities.capabilities.AbstractCapabilities``."""

from __future__ import annotations

#: It signs messages and MDNs with a certificate of its own for each partner.
SIGNS_PER_PARTNER = dict.fromkeys(("signs_messages_per_partner", "signs_mdns_per_partner"), "yes")
SIGNS_ALIKE = dict.fromkeys(SIGNS_PER_PARTNER, "no")


def keeps_both(answer: str = "yes") -> dict[str, str]:
    """Return the fields of a system that reads with two certificates or not: "yes", "no" or "unknown"."""
    return dict.fromkeys(("decrypts_with_two", "verifies_messages_with_two", "verifies_mdns_with_two"), answer)
