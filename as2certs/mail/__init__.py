"""The outbox, its delivery over SMTP or into a folder, bounces, and unsubscribing.

What a mail says and who gets it is decided by the apps that queue it.
"""
