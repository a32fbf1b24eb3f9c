"""Random orders of events, and what pages and mails say after each, compared with what both sides hold."""
