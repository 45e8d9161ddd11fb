"""Contracts: running autograders of other systems without changing them.

An assignment that names one (`contract: gradescope`) needs no phases: `expand` fills in what
the contract prescribes, and `grader_input` writes the files that its grader expects about a
submission. `recognise` finds the contract of a directory without an `assignment.yaml`.

What must hold: a bundle's content is unpacked, read and run in a sandbox only. The scripts in
this package run there too, beside untrusted code, and decide nothing.
"""

from job_engine.grading.contracts.expand import CONTRACTS, expand

__all__ = ["CONTRACTS", "expand"]
