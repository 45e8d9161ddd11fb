"""The distributor service: pushes the ids of waiting jobs into the locking queue.

For every action it stands in that action's election. The leader keeps the queue's
window full (feed), compares the store with the queue (reconcile), and creates the
periodic jobs (schedule). What must hold: a push is one transaction with a check on
the leader's own election node (leader-fenced), what waits in ZooKeeper is bounded
whatever the backlog (bounded-window), and leadership ends with the session.
"""
