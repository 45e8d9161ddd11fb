"""Hostile submissions, each with the verdict that it must get on every sandbox backend.

`programs/*.yaml` is the corpus: programs with their verdicts, one file a kind of attack.
`bench.py` grades them for real, in a network where an escape is heard, and compares the
host before and after. `holes.py` opens one hole at a time, to show that the corpus notices.
"""
