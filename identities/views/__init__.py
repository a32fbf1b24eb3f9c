"""The pages of our side: one file for each thing."""
