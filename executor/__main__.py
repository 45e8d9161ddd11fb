"""`python -m executor` is `job-executor`."""

from executor.cli import main

main()
