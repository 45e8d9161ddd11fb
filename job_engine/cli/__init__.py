"""The command line: `job-engine`, and what other console scripts share with it.

Thin: it asks the API through `job_engine.client`, starts services as processes of their
own, and never imports them. This is the only place that prints.
"""

from __future__ import annotations


def main() -> None:
    """Run `job-engine`."""
    from job_engine.cli.app import app  # `options` alone must stay cheap to import.

    app()
