"""The pages of rotations: one file for each thing."""
