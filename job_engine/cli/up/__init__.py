"""`job-engine up`: a whole engine on one machine, as child processes of one supervisor.

The children are the same programs that a larger installation runs by hand; nothing here
does their work. Stopping goes from the edge inwards: executors drain while the API and
ZooKeeper still answer, then distributor, API, ZooKeeper.
"""
