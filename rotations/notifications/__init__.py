"""Mail to our own people about expiring certificates and rotations: what is due, who gets it, and what it says.

Mail to partners belongs to ``letters``.
"""
