"""What partners do in a rotation: answers, submitted certificates, time slots, and following up on silence.

The mails that partners get are in ``letters``, decisions of operators in ``lifecycle``.
"""
