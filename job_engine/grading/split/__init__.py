"""The split run: harness and program in two sandboxes, joined by FIFOs in a tree of the slot.

The harness's sandbox mounts the tree with the right to write; there `run` stands for the
program. The program's sandbox mounts it read-only, which lets it open FIFOs and change nothing:
no name, no mode, no file. `serve` runs there, beside the student's code, and is not trusted:
whatever it could be made to say, the program could have printed.
"""

from job_engine.grading.split.join import JOIN, TREE, join_tree, serve_command

__all__ = ["JOIN", "TREE", "join_tree", "serve_command"]
