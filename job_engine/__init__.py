"""The core library: everything that more than one room of the project needs.

It imports no other room (`actions`, `distributor`, `executor`). Inside, imports
only go down this list; `lint-imports` holds the line:

    cli, testing → api → grading → client, queue, sandbox, store
        → plugins, webhooks → model → settings, log, addresses → errors
"""

__version__ = "0.1.0"
