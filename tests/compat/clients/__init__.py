"""Unmodified releases of `nuvla-api`, each in an environment of its own, driven by tests."""
