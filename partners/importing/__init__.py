"""Take over an inventory that exists already: a list (CSV) of partners, and a folder or ZIP of their certificates."""
