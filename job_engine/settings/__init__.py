"""Settings: the only place that reads the environment.

Each class has the settings of one process (or one part). A value comes, in rising
precedence, from its default, the YAML file that `JOB_ENGINE_CONFIG` names, an
environment variable `JOB_ENGINE_<FIELD>`, or a flag `--<field>` of the process. All of them
are exported here, since one file and one environment serve all processes: a name that none
of them knows is a mistake.
"""

from job_engine.settings.api import ApiSettings
from job_engine.settings.base import (
    CONFIG,
    Settings,
    unknown_variables,
    variable_of,
)
from job_engine.settings.clients import ClientSettings
from job_engine.settings.connections import ConnectionSettings, ServiceSettings, ZooKeeperAccess
from job_engine.settings.grading import GradingSettings
from job_engine.settings.loading import load
from job_engine.settings.sandbox import PolicySettings, SandboxSettings
from job_engine.settings.services import STOP_GRACE_S, DistributorSettings, ExecutorSettings
from job_engine.settings.up import DEFAULT_DATA_DIR, UpSettings

__all__ = [
    "CONFIG",
    "DEFAULT_DATA_DIR",
    "STOP_GRACE_S",
    "ApiSettings",
    "ClientSettings",
    "ConnectionSettings",
    "DistributorSettings",
    "ExecutorSettings",
    "GradingSettings",
    "PolicySettings",
    "SandboxSettings",
    "ServiceSettings",
    "Settings",
    "UpSettings",
    "ZooKeeperAccess",
    "load",
    "unknown_variables",
    "variable_of",
]
