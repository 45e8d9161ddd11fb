"""The line of idle executors, on a ZooKeeper of its own, which says who watches what."""
