"""Import an existing inventory: a CSV list of partners, and a folder or ZIP of their certificates.

The upload of a single certificate is in ``identities.certificates``.
"""
