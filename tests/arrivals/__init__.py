"""Certificates as they really arrive: mangled, wrapped, spoilt, or something else. Each file is made by a function."""
