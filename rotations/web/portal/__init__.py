"""The partner's page: reached by a link, without an account."""
