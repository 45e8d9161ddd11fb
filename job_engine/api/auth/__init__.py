"""Authentication: passwords, API keys, session tokens, and their revocation.

Authorisation is in `job_engine.api.access`; the ways to log in belong to the resource type
`session`, in `job_engine.api.types.logins`.
"""
