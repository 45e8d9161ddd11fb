"""Grading: from an untrusted submission to a score that can be explained.

`pipeline` is the way through: `bundles` and `assignment` say how to grade, `submission` what,
`plan` makes the phases of a slot, `follow` runs them, `assemble` makes the results and
`receipt` records what was graded by what. `archive/` unpacks safely, `contracts/` runs
autograders of other systems, `results/` has the model and the readers of formats, and `split/`
the tools of split runs.

What must hold (no-trust): nothing that a student wrote runs outside a sandbox or becomes a
file on the host. Archives, file names, results, output and exit codes are hostile input: they
are parsed within limits, and not believed.
"""
