"""Certificates and private keys of identities and partners: checks, import, generation, storage and export.

The contents of certificates are read in ``as2certs.pki``, without the database; the roles that certificates are used in
are in ``identities.role_assignments``.
"""
