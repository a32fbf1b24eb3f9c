"""The Django project, and what all apps share: settings, processes, uploads, tables, formatting of moments.

What belongs to one app is in that app; pages that combine several apps are in ``as2certs.site``.
"""
