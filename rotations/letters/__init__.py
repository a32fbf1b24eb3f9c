"""Mail to partners: its texts, templates, attachments, calendar entry and personal links, and when reminders are due.

What partners answer, and which of them are followed up, belongs to ``exchange``.
"""
