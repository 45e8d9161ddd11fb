"""What the garbage collector looks at once a service has started."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from job_engine.garbage import YOUNG, pass_over_what_is_here

class Node:
    pass

pass_over_what_is_here()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert gc.get_threshold()[0] == YOUNG
node = Node()
node.itself = node
seen = weakref.ref(node)
del node
kept = [[] for _ in range(2 * YOUNG)]
assert seen() is None, "what came later is not collected"
"""


def test_what_was_there_is_passed_over_and_what_comes_is_collected() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
