"""Proving who somebody is: passwords, API keys, session tokens, and their revocation.

What somebody may do is decided in `job_engine.api.access`; how they log in stands with the
resource type `session`, in `job_engine.api.types.logins`.
"""
