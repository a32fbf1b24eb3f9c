"""Test messages: compose, send, receive and judge AS2 messages that carry nothing but a test (RFC 4130).

Pure Python without Django, models or a clock. It is no gateway: what it receives is read to learn which certificates
were used, and discarded.
"""
