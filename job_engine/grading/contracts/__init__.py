"""Contracts: running autograders of other systems without changing them.

An assignment that names one (`contract: gradescope`) needs no phases: `expand` fills in what
the contract prescribes, and `grader_input` writes the files that its grader expects about a
submission. `recognise` makes a bundle of a directory or an archive in their formats. A module
for each contract has its settings, and reads them from the other system's files.

What must hold: a bundle's content is unpacked, read and run in a sandbox only. `scripts/`
run there too, beside untrusted code, and decide nothing.
"""

from job_engine.grading.contracts.expand import CONTRACTS, expand

__all__ = ["CONTRACTS", "expand"]
