"""Contracts of autograders that courses have already: how each is run as it is.

An assignment that names one (`contract: gradescope`) needs no phases of its own: `expand`
fills in what the contract says, and `grader_input` writes the files that its grader expects
about a submission. `recognise` tells the kind of a directory that has no `assignment.yaml` of ours.

What must hold: what is unpacked, read or run of a bundle is so in a sandbox; the scripts here
run in there too, beside code that nobody trusts, and decide nothing.
"""

from job_engine.grading.contracts.expand import CONTRACTS, expand

__all__ = ["CONTRACTS", "expand"]
