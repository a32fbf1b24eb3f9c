"""The views of our own people's pages, by subject. Each fetches, checks a form and calls one domain function."""
