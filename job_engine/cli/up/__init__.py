"""`job-engine up`: a whole engine on one machine, as child processes of one supervisor.

The children are the same programs as in a larger installation. They are stopped in the reverse
order of dependence: executors drain while the API and ZooKeeper still answer, then distributor,
API and ZooKeeper end.
"""
