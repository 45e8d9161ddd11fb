"""The split run: harness and program in two sandboxes, joined by FIFOs in a tree of the slot.

The harness's sandbox mounts the tree with the right to write, and has `run`, which stands for
the program, in a tree of its own. The program's sandbox mounts it read-only, which lets it open
FIFOs and change nothing: no name, no mode, no file. `serve` runs there, beside the student's
code, and is not trusted: whatever it could be made to say, the program could have printed.
"""

from job_engine.grading.split.join import (
    JOIN,
    SERVE_WORDS,
    TOOLS,
    TREES,
    contents,
    join_target,
    serve_command,
)

__all__ = ["JOIN", "SERVE_WORDS", "TOOLS", "TREES", "contents", "join_target", "serve_command"]
