"""Carry out plans between simulated AS2 stations, and show what becomes of their messages.

Everything is computed from the arguments, without looking at real systems. docs/simulation.md describes the model.
"""
