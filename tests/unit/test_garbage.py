"""`freeze` exempts existing objects from garbage collection, and no later ones."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from job_engine.garbage import YOUNGEST, freeze

class Node:
    pass

freeze()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert gc.get_threshold()[0] == YOUNGEST
node = Node()
node.itself = node
seen = weakref.ref(node)
del node
kept = [[] for _ in range(2 * YOUNGEST)]
assert seen() is None, "garbage made after `freeze` is not collected"
"""


def test_frozen_objects_are_exempt_and_new_garbage_is_collected() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
