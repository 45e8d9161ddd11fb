"""The command line: `job-engine`, and what other console scripts share with it.

It is thin: commands use the API through `job_engine.client`, start services as processes and
never import them. Only this package prints.
"""

from __future__ import annotations


def main() -> None:
    """Run `job-engine`."""
    from job_engine.cli.app import app  # `options` alone must stay cheap to import.

    app()
