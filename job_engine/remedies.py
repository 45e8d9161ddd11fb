"""The meaning of each warning and error in the log, and what to do about it.

The formatters of `job_engine.log` append these texts to the line, so that an operator needs no
manual. An event that needs no attention is not logged as a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFECT: Final = (
    "A defect of the engine, which goes on without what broke here. Please report it, with the "
    "traceback."
)
_LOGIN_OF_ZOOKEEPER: Final = (
    "Nothing is done until that is mended: JOB_ENGINE_ZK_AUTH has to be the same in every service "
    "that shares this ZooKeeper."
)
_IS_DOCKER_UP: Final = "If this goes on, see whether the Docker daemon answers: `docker info`."

REMEDIES: Final[Mapping[str, str]] = {
    # --- every service ---
    "open_files.few": "Connections beyond the limit are closed without an answer. Raise it: "
    "`ulimit -Hn`, or LimitNOFILE=65536 of a systemd unit; `--ulimit nofile=65536` of Docker.",
    # --- the executor ---
    "api.unreachable": "Running jobs are given back, and nothing is claimed until the API answers. "
    "See whether `job-engine api` runs, and whether JOB_ENGINE_API_URL is its address.",
    "api.refused": "Running jobs are given back, and nothing is claimed until the API takes the "
    "executor's actions. See whether JOB_ENGINE_CREDENTIALS_FILE is the executor.json of this API "
    "and its key still valid (`job-engine credential list`), and mend what `error` names.",
    "events.refused": "The API does not let this process follow what happens. See whether "
    "JOB_ENGINE_CREDENTIALS_FILE is the key of this service (executor.json, distributor.json) of "
    "this API, and still valid: `job-engine credential list`.",
    "queue.refused": _LOGIN_OF_ZOOKEEPER,
    "claim.refused": "The job waits and is offered again later; others are claimed meanwhile. "
    "`job-engine job show` says what is special about it, `job-engine job cancel` ends it.",
    "claim.unsettled": "A defect: the job waits, and is offered again later. Please report it.",
    "claims.failed": "A defect: the jobs are given back, and claimed again. Please report it.",
    "report.refused": "The job ends without what its action wanted to say. Mend the action by "
    "`error`; `job-engine job resubmit` runs the job again.",
    "job.raised": "The job is tried again as often as its action allows, then FAILED; no student "
    "is blamed. Mend what `error` names; `job-engine doctor` looks at this machine.",
    "job.undecided": "The action raised what cannot even be printed; it counts as a fault of the "
    "platform. Mend the action.",
    "job.close_failed": "What the action had borrowed could not be closed, and may be left over "
    "until this executor starts again.",
    "job.stuck": "The action does not end though it was told to, so the process has to. Mend the "
    "action: it has 5 s after `should_stop()` is true, or its sandbox is closed.",
    "executor.exit": "The process ends, and its jobs run again elsewhere. Its supervisor has to "
    "start it again; `job-engine up` does.",
    "drain.not_withdrawn": "The order to drain is still in ZooKeeper: an executor that starts "
    "under the same name within its session timeout may drain at once. Start it again then.",
    # --- ZooKeeper ---
    "zookeeper.lost": "What ran or led here is stopped and goes on elsewhere, or here once "
    "ZooKeeper answers; no job is lost. See whether it runs, and whether JOB_ENGINE_ZK_HOSTS names "
    "it.",
    # --- the distributor ---
    "election.refused": _LOGIN_OF_ZOOKEEPER,
    "fleet.refused": _LOGIN_OF_ZOOKEEPER,
    "leader.api_failed": "No job of this action is pushed until the API does what it is asked, or "
    "another distributor leads instead; those that are pushed go on. See `error`, and the API's "
    "own log at this time. Where it is 403, see whether JOB_ENGINE_CREDENTIALS_FILE is the "
    "distributor.json of this API.",
    "entries.gone": "Entries were no longer in ZooKeeper (it was wiped or restored, or somebody "
    "deleted them). Their jobs are pushed again; nothing has to be done. Where this comes every "
    "minute, a distributor of the same API has another JOB_ENGINE_ZK_HOSTS, or another chroot in "
    "it, and the two take each other's jobs: make them the same.",
    "entries.elsewhere": "Jobs have entries that are not in this ZooKeeper, in which no executor "
    "is registered either; nothing is done until one is. See whether this distributor has the "
    "JOB_ENGINE_ZK_HOSTS of the executors, the same chroot in it, and whether those run.",
    "jobs.abandoned": "A foreign consumer went away with these jobs. They are queued again; "
    "nothing has to be done.",
    "jobs.orphaned": "No live executor has their action. `job-engine job list --state FAILED` "
    "shows them; start an executor that has it, then `job-engine job resubmit` them.",
    # --- the sandboxes ---
    "sandbox.warm.failed": "No sandbox could be made ahead; a job that needs one makes its own, or "
    "says what is wrong. Mend what `error` names; `job-engine doctor` looks at this machine.",
    "sandbox.leftover": "A used sandbox is not wholly removed. This executor's next start does it.",
    "docker.slot.leftover": f"Removing it is tried again until it is gone. {_IS_DOCKER_UP}",
    "docker.kill.failed": "A container goes on beyond its end, within its limits; this executor's "
    f"next start removes it. {_IS_DOCKER_UP}",
    "docker.root.unwatched": "What a phase writes could not be measured, so it is stopped as if "
    f"its disk were full. {_IS_DOCKER_UP}",
    "docker.slot.broken": "A defect: the job is tried again. Please report it, with the traceback.",
    "docker.companion.broken": "A defect: the job is tried again. Please report it, with the "
    "traceback.",
    "egress.refused": "A phase asked for a host that it may not reach. Nothing has to be done, "
    "unless its assignment needs that host: then see JOB_ENGINE_ALLOW_REACH and "
    "JOB_ENGINE_ALLOW_PRIVATE_HOSTS.",
    # --- the API and its store ---
    "request.failed": "The client was told to try again later. The reason is in `error`, or in the "
    "lines above.",
    "stream.cut": "Who read the stream connects again, and misses nothing. See why the store does "
    "not answer: `error` says it.",
    "store.commit_failed": "Nothing of it was stored, and its requests got an error. See `error`: "
    "a full disk needs space, a database that is away has to come back.",
    "store.commit_unknown": "PostgreSQL went away while it committed: all of it is stored, or "
    "nothing. Its requests got an error; executors and distributors repeat them, which is safe. "
    "See why the connection ended.",
    "store.stalled": "Writes wait, and probes are answered 503. See which process locks the "
    "database (SQLite: `fuser store.sqlite`; PostgreSQL: locks in pg_stat_activity), and whether "
    "its disk answers. Nothing that was answered is lost.",
    "api.exit": "The database hung, and what hangs in it cannot be stopped. What was answered is "
    "stored. See why it does not answer, then start the API again.",
    "engine.waits": "An engine that was killed had this directory, and parts of it still end. "
    "Nothing has to be done; if it takes too long, `fuser` names who has the file.",
    "notices.lost": "Events are looked up every few seconds instead of heard, until PostgreSQL "
    "answers again. See whether it runs.",
    "action.schema_broken": "Payloads of this action are checked only when it runs. Mend the "
    "payload model of the plugin.",
}
"""Remedies by event. An event without one is logged with a traceback, and is a `DEFECT`."""

LIBRARIES: Final[Mapping[tuple[str, str], str]] = {
    ("kazoo.client", "Connection dropped"): "It is tried again, and jobs wait meanwhile. See "
    "whether ZooKeeper runs, and whether JOB_ENGINE_ZK_HOSTS names it.",
    ("kazoo.client", "Failed connecting to Zookeeper"): "It was not reached before this process "
    "was told to stop.",
    ("uvicorn.error", "[Errno "): "See JOB_ENGINE_HOST and JOB_ENGINE_PORT (--host, --port).",
}
"""Remedies for other libraries' records, by logger and beginning of the message."""
