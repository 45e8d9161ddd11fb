"""The core library: everything that more than one package of the project needs.

It imports none of the others (`actions`, `distributor`, `executor`). Inside, imports
only go down this list; `lint-imports` holds the line:

    cli, testing → api → grading → client, queue, sandbox, store
        → plugins, webhooks → model → settings, log, addresses → errors
"""

__version__ = "0.1.0"
