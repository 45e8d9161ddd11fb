"""SIGTERM and SIGINT for services: the first one asks to stop, a second one to hurry."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def on_stop_signals(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Call `first` and then `second` from a thread of their own, a signal each.

    Not from a handler: Python runs it in the main thread between two instructions,
    where it would deadlock on a lock that this thread holds just then; and it does not
    run it at all while the main thread waits for a lock, if the signal came in the
    moment before. The interpreter writes to the wakeup descriptor at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wait_for_one() -> None:
        while os.read(reader, 1)[0] not in STOP_SIGNALS:
            pass

    def listen() -> None:
        wait_for_one()
        first()
        wait_for_one()
        second()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in STOP_SIGNALS:
        # Only a signal with a handler is written to the descriptor.
        signal.signal(number, lambda _number, _frame: None)
