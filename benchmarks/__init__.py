"""Benchmarks of the engine, each beside a peer measured in the same run.

`python -m benchmarks --help` says how to run them. One file a name, each with
`run(scale) -> Figure`; `servers.py` starts what they need and `peers/` drives what they
compare with. Nothing here is installed: it runs from a checkout, and starts the same
processes that an operator would.
"""
