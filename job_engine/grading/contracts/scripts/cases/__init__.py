"""The engine's own harness for plain cases: it runs a program on inputs and judges its outputs.

It runs in a sandbox, with the tests and without the submission, and talks with the program
through the command that stands for it. `activity` (Moodle VPL) and `submitty` run beside the
submission instead. The modules are put there as a package of their own; they need Python 3.9 and
nothing else, and import one another only; the package `classroom` imports `files`.
"""
