"""The fault test-bed: a whole engine of real processes, ill-treated from a seed, and judged.

`world` starts the processes, each with a proxy of its own between it and every peer, on
an `ensemble` of three ZooKeeper servers; `load` submits jobs; `driver` draws faults of
the `kinds` there are from a seed, several at once, and writes them into the `journal`.
Executions write a trace of their own (`tests/support/actions`), from inside the action
or the sandbox. What must hold is in `checker`, which reads the trace, the journal and
what the submitter was told, and believes nothing that the engine says about itself.
"""
