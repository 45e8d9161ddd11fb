"""`python -m distributor` is `job-distributor`."""

from distributor.cli import main

main()
