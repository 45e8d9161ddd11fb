"""Signals that stop services: the first one asks to stop, a second one to hurry.

SIGHUP, which a closed terminal sends, asks to stop too. It never hurries: where a terminal
closes, the kernel sends it and the shell may send it again.
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
    """Call `first` and then `second` from a thread of their own, a signal each.

    Not from a handler: Python runs it in the main thread between two instructions,
    where it would deadlock on a lock that this thread holds just then; and it does not
    run it at all while the main thread waits for a lock, if the signal came in the
    moment before. The interpreter writes to the wakeup descriptor at once.
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
