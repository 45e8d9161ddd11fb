"""Running the commands of a GitHub Classroom repository, as GitHub's runners do."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from . import stand_ins

Step = dict[str, Any]
Process = subprocess.Popen[bytes]
STEP_S = 600.0
"""Upper bound of a step of the workflow."""
_EXPRESSION = re.compile(r"\$\{\{ (?:github\.workspace|env\.([\w-]+)) \}\}")
"""Expressions of a workflow of which only the run knows the values."""
MAX_OUTPUT_BYTES = 1 << 20
"""Bytes of an output that are read."""
MAX_VARIABLE_BYTES = 100_000
"""Bytes of a variable and its name; the kernel starts no program with one of 131,072."""


class Runner:
    """Runs commands as GitHub's runners do, with stand-ins for what the sandbox has not."""

    def __init__(self, scratch: str) -> None:
        path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        path, self._failed_installs = stand_ins.write(scratch, path)
        self.environment = {
            **os.environ,
            "PATH": path,
            "FORCE_COLOR": "true",
            "DOTNET_CLI_HOME": "/tmp",
            "DOTNET_NOLOGO": "true",
            "CI": "true",
            "GITHUB_WORKSPACE": os.getcwd(),
            # Distributions refuse pip in their own directories; the sandbox has no other user.
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "PIP_RETRIES": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "npm_config_fetch_retries": "0",
        }
        self._scratch = scratch
        self._job_environment: dict[str, str] = {}
        self._left: list[Process] = []
        self._path = path
        self.broken = ""
        """What a step said that failed; nothing runs after it, unless it always does."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(self._left)

    def end(self, processes: list[Process]) -> None:
        """End what commands have left running."""
        for process in processes:
            kill(process)

    def shell(
        self, text: str, stdin: str, seconds: float, left: list[Process]
    ) -> tuple[int | None, str, str]:
        """Run a command as `command` does."""
        return command(["/bin/sh", "-c", text], stdin, seconds, self.environment, left)

    def new_job(self) -> None:
        """Begin another job, which has nothing of those before it but the files."""
        self.end(self._left)
        self._left.clear()
        self._job_environment.clear()
        self.environment["PATH"] = self._path
        self.broken = ""

    def define(self, variables: dict[str, str]) -> None:
        """Set variables of the steps that follow; steps may change them."""
        self._job_environment.update({k: self.expand(value) for k, value in variables.items()})

    def expand(self, text: str) -> str:
        """Return a text with the workspace, and the variables that steps have set."""

        def value(found: re.Match[str]) -> str:
            if found[1] is None:
                return self.environment["GITHUB_WORKSPACE"]
            return self._job_environment.get(found[1], "")

        return _EXPRESSION.sub(value, text)

    def steps(self, steps: list[Step]) -> None:
        """Run steps of a workflow, up to the first that fails; what they leave running stays."""
        for step in steps:
            if not self.broken or step["always"]:
                problem = self._step(step)
                if problem and not step["may_fail"]:
                    self.broken = self.broken or f"the workflow's step {problem}"

    def _step(self, step: Step) -> str:
        """Run a step; return what failed of it."""
        names = ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        files = {name: os.path.join(self._scratch, name) for name in names}
        for file in files.values():
            with open(file, "w", encoding="utf-8"):
                pass
        script = os.path.join(self._scratch, "step")
        with open(script, "w", encoding="utf-8") as text:
            text.write(self.expand(step["run"]) + "\n")
        shell = [*shlex.split(self.expand(step["shell"]) or "bash -e"), script]
        if shutil.which(shell[0], path=self.environment["PATH"]) is None:
            shell = ["/bin/sh", "-e", script]
        own = {name: self.expand(value) for name, value in step["env"].items()}
        environment = {**self.environment, **self._job_environment, **files, **own}
        directory = self.expand(step["directory"])
        if not os.path.isdir(directory):
            return f"runs in {directory}, which is not there"
        first = step["run"].strip().partition("\n")[0]
        code, printed, errors = command(shell, "", STEP_S, environment, self._left, directory)
        for line in text_of_file(files["GITHUB_PATH"]).split("\n"):
            if line.strip():
                self.environment["PATH"] = line + os.pathsep + self.environment["PATH"]
        try:
            self._job_environment.update(variables(text_of_file(files["GITHUB_ENV"])))
        except ValueError as error:
            return f"{first!r} wrote to GITHUB_ENV what cannot be read: {error}"
        return "" if code == 0 else f"{first!r} {ended(code, STEP_S)}\n{printed}{errors}"

    def note(self) -> str:
        """Say which commands could not install packages since the last time."""
        return "".join(
            f"{line!r} failed; what it installs has to be in the image.\n"
            for line in stand_ins.failures(self._failed_installs)
        )


def text_of_file(file: str) -> str:
    """Return the text of a file; empty when it is gone."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.read().replace("\0", "")
    except OSError:
        return ""


def variables(text: str) -> dict[str, str]:
    """Return what a step wrote to `GITHUB_ENV`: lines `NAME=value`, and values of several lines.

    The latter stand between `NAME<<DELIMITER` and a line that is the delimiter. Raises
    `ValueError`. Source: "Workflow commands for GitHub Actions", "Setting an environment
    variable".
    """
    found = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line.strip():
            continue
        # Whichever comes first: the value may have the other.
        match = re.match(r"([^=]+?)(<<|=)(.*)", line)
        if match is None:
            raise ValueError(f"{line!r} is not NAME=value")
        name, sign, value = match.groups()
        if sign == "<<":
            value = "\n".join(until(value, lines))
        if len(f"{name}={value}".encode()) > MAX_VARIABLE_BYTES:
            raise ValueError(f"{name[:100]!r} has more than {MAX_VARIABLE_BYTES:,} bytes")
        found[name] = value
    return found


def until(delimiter: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines before a delimiter; raises `ValueError` when it does not come."""
    for line in lines:
        if line == delimiter:
            return
        yield line
    raise ValueError(f"the line {delimiter!r} is missing")


def command(
    words: list[str],
    stdin: str,
    seconds: float,
    environment: dict[str, str],
    left: list[Process],
    directory: str = ".",
) -> tuple[int | None, str, str]:
    """Run a command; return exit code (None: it took too long), output and errors.

    What it started goes to `left`, for its descendants may still be running. One that cannot be
    started ends as a shell says it: with 126.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with tempfile.TemporaryFile() as file:
            file.write(stdin.encode())
            file.seek(0)
            try:
                process = subprocess.Popen(
                    words,
                    stdin=file,
                    stdout=out,
                    stderr=err,
                    env=environment,
                    cwd=directory,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                # Such as variables too large together, of which a submission may have printed some.
                return 126, "", str(error)
        left.append(process)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            kill(process)
        return code, text_of(out), text_of(err)


def text_of(stream: IO[bytes]) -> str:
    """Return the text of a stream, up to `MAX_OUTPUT_BYTES`."""
    stream.seek(0)
    return stream.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")


def kill(process: Process) -> None:
    """End a command and its descendants."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ended(code: int | None, seconds: float) -> str:
    """Describe how a failed command ended."""
    if code is None:
        return f"took longer than {seconds:g} s"
    return f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
