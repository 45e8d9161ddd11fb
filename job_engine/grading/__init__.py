"""Grading: from a submission that nobody trusts to a score that can be explained.

What lives here: safe unpacking (`archive`), assignments and their bundles, where a
submission comes from, the phases as slots' specs (`pipeline`), and the results model
with its readers (`results`).

What must hold (**no-trust**): nothing a student wrote runs outside a sandbox or is
written as a file on the host, and archives, file names, results, output and exit
codes are read as hostile input: with limits, and never believed.
"""
