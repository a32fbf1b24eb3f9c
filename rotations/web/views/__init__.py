"""The views of our own people's pages, one module per subject. Each fetches, checks a form and calls the domain once."""
