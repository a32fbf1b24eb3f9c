"""The audit trail: recording events, the hash chain over them, its verification and export, and the texts of verbs.

What partners may read of it is in ``rotations.web.portal.history``.
"""
