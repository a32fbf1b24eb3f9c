"""Carrying out a rotation: its stored plan, whether a step may be carried out, what that changes, and confirmations.

What operators decide about a rotation belongs into ``lifecycle``, what partners send into ``exchange``.
"""
