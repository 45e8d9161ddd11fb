"""Settings: the only place that reads the environment.

Each class has the settings of one process or part. The sources of a value, in order of
increasing precedence, are its default, the YAML file that `JOB_ENGINE_CONFIG` names, the
environment variable `JOB_ENGINE_<FIELD>`, and the flag `--<field>`. All classes are exported
here, because one file and one environment may serve all processes: a name that is in no class
is an error.
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
