"""Test messages to partners: who may get one, with which certificates, how a worker sends it and stores the verdict.

What a verdict means for a rotation belongs into ``rotations.lifecycle``; AS2 itself into ``as2certs.as2``.
"""
