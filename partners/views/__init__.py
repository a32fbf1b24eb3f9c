"""The pages of partners, their contacts, certificates and partnerships, and of the import of a list."""
