"""Trading partners: their stations, contacts and certificates, and their connections with our identities.

What they share with identities is in ``identities``; what partners do during a rotation is in ``rotations.exchange``.
"""
