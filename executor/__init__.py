"""The executor service: claims jobs from the queue and runs their actions.

One claimer thread keeps N worker threads busy, one reporter sends their progress and
results to the API in batches, one watchdog ends what runs too long, and an event stream
brings cancellations. What must hold: nothing new is started on a session that is
suspended, and once it is lost, everything that runs is interrupted and nothing is
reported for it (lost-means-stop); no entry is consumed before the API has the outcome.
"""
