"""Our own AS2 stations (identities), their certificates and private keys, and the AS2 systems that they run on.

What identities and partners share is here too, in ``stations``, ``certificates`` and ``views``; what only partners
have is in ``partners``.
"""
