"""Settings: the only place that reads the environment.

Each class is what one process (or one part) can be told. A value comes, in rising
precedence, from its default, the YAML file that `JOB_ENGINE_CONFIG` names, an
environment variable `JOB_ENGINE_<FIELD>`, or a flag `--<field>` of the process.
"""

from job_engine.settings.api import ApiSettings
from job_engine.settings.base import ENV_PREFIX, Settings
from job_engine.settings.connections import ConnectionSettings, ServiceSettings, ZooKeeperAccess
from job_engine.settings.grading import GradingSettings
from job_engine.settings.sandbox import PolicySettings, SandboxSettings
from job_engine.settings.services import STOP_GRACE_S, DistributorSettings, ExecutorSettings

__all__ = [
    "ENV_PREFIX",
    "STOP_GRACE_S",
    "ApiSettings",
    "ConnectionSettings",
    "DistributorSettings",
    "ExecutorSettings",
    "GradingSettings",
    "PolicySettings",
    "SandboxSettings",
    "ServiceSettings",
    "Settings",
    "ZooKeeperAccess",
]
