"""The pages of their side: one file for each thing."""
