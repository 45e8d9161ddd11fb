"""Where code that nobody trusts runs: slots, their phases, and how each phase ended.

`base` has the abstract sandbox with its value types, each backend has a folder, and `factory`
picks one by name. `warm` keeps slots prepared for later submissions; `policy` refuses what
the operator does not allow; the `egress` modules are the only way out of a slot.

What must hold: a phase that asks for what the backend cannot give is refused
(fail-closed), no path of the host is shared, and whatever comes out is hostile (no-trust).
"""

from job_engine.sandbox.base import Sandbox

__all__ = ["Sandbox"]
