"""What the engine is compared with: kazoo's own `LockingQueue`, and dramatiq on Redis.

Each runs as its documentation has it; what is left out of it, it does not pay for.
"""
