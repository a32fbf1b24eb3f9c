"""The pages on which a partner submits its own new certificate."""
