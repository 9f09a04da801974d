"""Doors for other projects: each module imports its project, and nothing else imports them."""
