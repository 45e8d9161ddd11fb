"""How requests wait: threads for the store, limits on how many wait, and event streams."""
