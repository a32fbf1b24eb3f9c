"""What has to happen in a rotation, in which order and when: plans, windows, freezes, states, and their simulation.

Pure functions and values. No Django, no models, no I/O, no clock: whatever reads or stores something belongs elsewhere.
"""
