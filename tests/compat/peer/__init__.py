"""The Nuvla job engine's own executor and distributor, as far as others see them.

Small programs that make the same calls in the same order, over the same libraries
(`nuvla-api`, kazoo's `LockingQueue` and `Election`), written from docs/cimi.md §6.
What they do wrong there, they do wrong here: they are what the engine has to put up with.
"""
