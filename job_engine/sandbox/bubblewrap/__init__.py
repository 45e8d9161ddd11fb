"""The bubblewrap backend: slots of user, mount, pid and network namespaces.

Three kinds of process, from the most to the least trusted:

- the executor (host root, many threads) makes cgroups, reads output, serves egress:
  `backend`, `slot`, `launch`, `phase`, `companion`, `cgroups`, `uids`, `spawner`, `command`;
- the zygote (host root, one thread, hidden from the host's file system) forks slots:
  `zygote`, `root`;
- a slot's holder (process 1 of the slot's pid namespace, root only there, an unprivileged
  uid on the host) mounts the trees, starts bwrap for each phase, ahead of its turn, and
  reads what phases hand over: `holder`, `running`, `child`, `fill`, `walk`.

What must hold: nothing of bubblewrap's or a student's runs as host root; the modules that
the zygote imports are imported before it hides the file system, and are few (a fork copies
them); a holder's death kills everything in its slot, and the end of a phase everything that
began in it.
"""
