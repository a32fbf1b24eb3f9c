"""Test messages to and from partners: who may get one, how workers send it, what its MDN and those of partners show.

What a verdict means for a rotation belongs into ``rotations.lifecycle``; AS2 itself into ``as2certs.as2``.
"""
