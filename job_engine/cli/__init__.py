"""The command line: `job-engine`, and what other console scripts share with it.

Commands use the API through `job_engine.client`. Services are started as processes, and never
imported. Only this package prints.
"""

from __future__ import annotations


def main() -> None:
    """Run `job-engine`."""
    from job_engine.cli.app import app  # `options` alone must stay cheap to import.

    app()
