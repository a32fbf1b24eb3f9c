"""The pages of identities, their certificates and AS2 systems, and what they share with the pages of partners."""
