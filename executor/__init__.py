"""The executor service: claims jobs from the queue and runs their actions.

One claimer thread keeps N worker threads busy, and an asker asks the API about its next claims
meanwhile. One reporter sends the runs' progress and results to the API in batches, one watchdog
interrupts runs at their timeout, and an event stream brings cancellations. What must hold:
nothing new is started on a session that is suspended, and once it is lost, everything that runs
is interrupted and nothing is reported for it (lost-means-stop); no entry is consumed before the
API has the outcome.
"""
