"""Certificates and keys on their way in and out: checked, imported one by one or in bulk, generated, exported.

For identities and partners alike. What a certificate says is read in ``as2certs.pki``; which one serves which role is
kept in ``identities.role_assignments``.
"""
