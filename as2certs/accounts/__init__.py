"""Users, roles and their permissions, the login with second factors and single sign-on, and the settings.

Who may do what in a rotation, such as the four-eyes rule, is in ``rotations``.
"""
