"""`run_command`: run one command in a sandbox, and store what it printed."""

from __future__ import annotations

from typing import Final

from job_engine.grading.command import CommandOutput, CommandPayload, run_command
from job_engine.plugins import Action, Context, Result, RetryPolicy
from job_engine.sandbox.base import Sandbox, Verdict
from job_engine.settings import ExecutorSettings

KILLED: Final = 128
"""Added to the number of the signal that ended a command, as shells do."""
LIMIT: Final = 124
"""Return code of a command that met a limit, as timeout(1) has it."""


class RunCommand(Action[CommandPayload]):
    """Run one command without network; its `output` says how it ended, as JSON.

    SUCCESS is exit code 0. Anything else is FAILED, with the exit code as return code,
    128 plus the signal's number, or 124 if a limit ended it.
    """

    name = "run_command"
    payload = CommandPayload
    timeout_s = 1800.0
    retry = RetryPolicy(max_attempts=3, backoff_s=5.0)
    cost = 2.0
    needs = (Sandbox, ExecutorSettings)

    def run(self, context: Context[CommandPayload]) -> Result:
        """Run it, and hand back how it ended."""
        settings = context.need(ExecutorSettings)
        sandbox = context.need(Sandbox)
        output = run_command(context.payload, context, sandbox, settings, settings.name)
        return Result(
            return_code=_return_code(output),
            message=output.message,
            output=output.model_dump_json(),
        )


def _return_code(output: CommandOutput) -> int:
    match output.verdict:
        case Verdict.OK:
            return 0
        case Verdict.EXIT:
            return output.exit_code or 1
        case Verdict.SIGNAL:
            return KILLED + (output.signal or 0)
        case _:
            return LIMIT
