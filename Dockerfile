# One image for all three services: job-engine (the API and the command line),
# job-distributor and job-executor. Builds for amd64 and arm64 alike.
#
#   docker build -t job-engine .
#   docker run --rm job-engine job-executor --help
#
# Where no registry is reachable, build from a base of your own, and where no package index
# is either, put the wheels that pyproject.toml asks for into `wheels/` first:
#
#   scripts/build-base-image
#   docker build --build-arg BASE_IMAGE=job-engine-base:bookworm -t job-engine .

# Any Debian or Ubuntu with python3 from 3.11 on, and its venv module.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Extras of the package to install, such as `postgres`.
ARG EXTRAS=""
WORKDIR /src
# COPY fails on a pattern that matches nothing, unless something else on the line does match.
COPY README.md wheels* /wheels/
COPY pyproject.toml README.md LICENSE ./
# The dependencies in a layer of their own, which a change of the code leaves alone.
RUN set -eu; \
    python3 -m venv /opt/job-engine; \
    if ls /wheels/*.whl >/dev/null 2>&1; then \
        printf '[global]\nno-index = true\nfind-links = /wheels\n' >/etc/pip.conf; \
    fi; \
    python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        >/tmp/requirements; \
    /opt/job-engine/bin/pip install --no-cache-dir --disable-pip-version-check -r /tmp/requirements
COPY job_engine job_engine
COPY actions actions
COPY distributor distributor
COPY executor executor
RUN set -eu; \
    /opt/job-engine/bin/pip install --no-cache-dir --disable-pip-version-check \
        ".${EXTRAS:+[$EXTRAS]}"; \
    /opt/job-engine/bin/pip uninstall --yes --quiet pip setuptools wheel 2>/dev/null || true

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="job-engine" \
      org.opencontainers.image.description="A distributed job engine for grading code that nobody trusts" \
      org.opencontainers.image.licenses="Apache-2.0"
# By number everywhere: whoever runs it as another user needs no entry in /etc/passwd either.
RUN groupadd --gid 10001 job-engine \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/job-engine --no-create-home \
        --shell /usr/sbin/nologin job-engine \
 && install -d -o 10001 -g 10001 -m 0750 \
        /var/lib/job-engine /var/lib/job-engine/data /var/lib/job-engine/credentials \
        /var/lib/job-engine/cache
COPY --from=build /opt/job-engine /opt/job-engine
ENV PATH=/opt/job-engine/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    JOB_ENGINE_DATA_DIR=/var/lib/job-engine/data \
    JOB_ENGINE_CREDENTIALS_DIR=/var/lib/job-engine/credentials \
    JOB_ENGINE_BUNDLE_CACHE_DIR=/var/lib/job-engine/cache
USER 10001:10001
WORKDIR /var/lib/job-engine
# All three drain on it; give them the time (see stop_grace_period in compose.yaml).
STOPSIGNAL SIGTERM
CMD ["job-engine", "--help"]
