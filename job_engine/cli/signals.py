"""Signals that stop services: the first one asks for a stop, a second one skips the waiting.

SIGHUP, which a closed terminal sends, only asks for a stop, because both the kernel and the
shell may send it for the same terminal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection
from typing import Final

HURRY_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""Signals that make a process that is already stopping stop at once."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop this process; SIGHUP, unless `nohup` had it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return HURRY_SIGNALS
    return (*HURRY_SIGNALS, signal.SIGHUP)


def on_stop_signals(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Call `first` at the first signal and `second` at a further one, from a separate thread.

    They are not called from a signal handler: that runs in the main thread, so it could
    deadlock on a lock that this thread holds, and it may not run at all while that thread waits
    for a lock. The interpreter writes to the wakeup descriptor at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    stopping = stop_signals()

    def wait_for(wanted: Collection[int]) -> None:
        while os.read(reader, 1)[0] not in wanted:
            pass

    def listen() -> None:
        wait_for(stopping)
        first()
        wait_for(HURRY_SIGNALS)
        second()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in stopping:
        # Only a signal with a handler is written to the descriptor.
        signal.signal(number, lambda _number, _frame: None)
