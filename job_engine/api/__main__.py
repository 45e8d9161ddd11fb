"""`python -m job_engine.api`: serve with the settings of the environment."""

import sys

from job_engine.api.server import serve
from job_engine.errors import ConfigurationError
from job_engine.settings import ApiSettings, load

if __name__ == "__main__":
    try:
        settings = load(ApiSettings)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error.message}\n")
        sys.exit(2)
    serve(settings)
