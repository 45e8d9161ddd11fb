"""An executor of a release that is yet to come: it runs one job version more."""

import job_engine.model

# Before anything reads it: the release is what its modules were loaded with.
job_engine.model.SUPPORTED_VERSION += 1  # type: ignore[misc]

from executor.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
