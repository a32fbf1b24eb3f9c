"""The web pages of rotations. Rules about what may happen, and when, belong in the rooms below."""
