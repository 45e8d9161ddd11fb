"""`deliver_webhooks`: send due messages of webhooks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from job_engine.client import Api
from job_engine.model.webhooks import SendResult, SignedMessage
from job_engine.plugins import Action, Context, NoPayload, Result, RetryPolicy
from job_engine.settings import ExecutorSettings
from job_engine.webhooks import DestinationPolicy, Sender

AT_ONCE: Final = 8
"""Messages that are sent at the same time."""
SHIFT_S: Final = 900.0
"""Seconds after which a sender hands over to the next job, so that none runs for ever."""
_LOOK_S: Final = 0.2


class DeliverWebhooks(Action[NoPayload]):
    """Send every message that is due; each one's answer is in its `webhook-delivery`.

    The store creates a job of it whenever there are messages to send, due at once or at the
    time of a retry.
    """

    name = "deliver_webhooks"
    timeout_s = 3600.0
    retry = RetryPolicy(max_attempts=5, backoff_s=5.0)
    restricted = True
    needs = (Api, ExecutorSettings)

    def run(self, context: Context[NoPayload]) -> Result:
        """Take and send messages until none is due."""
        api, fence = context.need(Api), context.job.fence
        assert fence is not None  # running jobs are claimed
        sender = _sender(context.need(ExecutorSettings))
        shift_ends = time.monotonic() + SHIFT_S
        sent = arrived = 0
        with context.lend(sender.close):
            while True:
                closing = time.monotonic() > shift_ends
                messages = api.take_webhooks(context.job.id, fence, closing=closing)
                if not messages:
                    return Result(message=f"Sent {sent} messages; {arrived} arrived.")
                results = list(_send_all(context, sender, messages))
                # Also after an interruption, so that delivered messages are not sent again.
                api.settle_webhooks(context.job.id, fence, results)
                sent += len(results)
                arrived += sum(200 <= (result.status or 0) < 300 for result in results)
                context.progress(50, f"{arrived} of {sent} arrived")


def _sender(settings: ExecutorSettings) -> Sender:
    policy = DestinationPolicy(
        allow_http=settings.webhook_allow_http,
        allow_private_hosts=settings.webhook_private_hosts,
    )
    return Sender(policy, timeout_s=settings.webhook_timeout_s, ca_file=settings.webhook_ca_file)


def _send_all(
    context: Context[NoPayload], sender: Sender, messages: Sequence[SignedMessage]
) -> Iterator[SendResult]:
    """Yield results as they arrive, until all are there or the run is interrupted.

    On an interruption it does not wait for its threads: resolving a name cannot be cancelled.
    """
    waiting: queue.SimpleQueue[SignedMessage] = queue.SimpleQueue()
    results: queue.SimpleQueue[SendResult] = queue.SimpleQueue()
    for message in messages:
        waiting.put(message)

    def work() -> None:
        while not context.should_stop():
            try:
                message = waiting.get_nowait()
            except queue.Empty:
                return
            results.put(_send(sender, message))

    for n in range(min(AT_ONCE, len(messages))):
        threading.Thread(target=work, name=f"webhook-{n}", daemon=True).start()
    left = len(messages)
    while left and not context.should_stop():
        try:
            yield results.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        left -= 1


def _send(sender: Sender, message: SignedMessage) -> SendResult:
    began = time.monotonic()
    outcome = sender.send(message.url, message.headers, message.body)
    return SendResult(
        delivery=message.delivery,
        attempt=message.attempt,
        status=outcome.status,
        error=outcome.error,
        refused=outcome.refused,
        duration_ms=round((time.monotonic() - began) * 1000),
    )
