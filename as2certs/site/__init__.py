"""Pages that combine all apps (home, search, calendar, help, the report of a rotation), health, and template tags.

Nothing below imports this package; pages of a single app are in that app.
"""
