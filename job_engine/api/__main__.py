"""`python -m job_engine.api`: serve with the settings of the environment."""

from job_engine.api.server import serve
from job_engine.settings import ApiSettings

if __name__ == "__main__":
    serve(ApiSettings())
