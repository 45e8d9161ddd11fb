"""SIGTERM and SIGINT for services: the first one asks to stop, a second one to hurry."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def on_stop_signals(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Call `first` and then `second` from a thread of their own, a signal each.

    Not from the handler itself: it runs in the main thread between any two
    instructions, and would deadlock on a lock that this thread holds just then.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        os.read(reader, 1)
        first()
        os.read(reader, 1)
        second()

    def handler(_number: int, _frame: object) -> None:
        os.write(writer, b"!")

    threading.Thread(target=listen, name="signals", daemon=True).start()
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
