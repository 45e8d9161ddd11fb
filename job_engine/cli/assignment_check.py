"""`job-engine assignment check`: tests an assignment on its solutions, without a server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.exits import LOST_POINTS, errors_as_exits
from job_engine.cli.options import load_settings
from job_engine.cli.up.setup import choose_sandbox, local_base_image
from job_engine.errors import ConfigurationError
from job_engine.grading.bundles import BundleCache
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.pipeline import Grader
from job_engine.grading.prove import LocalBlobs, Proof, prove, solutions_beside, solutions_of
from job_engine.grading.receipt import JobFacts
from job_engine.grading.render import score_table
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import GradingSettings, SandboxSettings


class Terminal:
    """Follows a run on standard error; see `Watch`."""

    def __init__(self, scratch: Path, *, verbose: bool) -> None:
        self.scratch = scratch
        self._verbose = verbose

    def progress(self, percent: int, message: str | None = None) -> None:
        """Show what is being done."""
        if self._verbose and message:
            text.error_console().print(f"{percent:3} % {text.one_line(message, 200)}")

    def log(self, text_: str) -> None:
        """Show lines of the log."""
        if self._verbose:
            text.error_console().print(text.clean(text_))

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        """Ignore events: the results contain the same information."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def lend(self, close: Callable[[], None]) -> AbstractContextManager[None]:
        """Do nothing: Ctrl-C ends the whole command."""
        return nullcontext()


def check(
    source: Annotated[
        Path, typer.Argument(help="An assignment, as `job-engine assignment add` takes it.")
    ],
    solutions: Annotated[
        Path | None,
        typer.Option(help="Directory of reference solutions; default: solutions/ in it."),
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option(help="docker or bubblewrap; default: what works here.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image, where it names none.")] = None,
    allow_profile: Annotated[
        list[str] | None,
        typer.Option(help="Grant a profile on this machine: own-root, for Gradescope bundles."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what runs.")] = False,
) -> None:
    """Check an assignment, and prove it on its solutions in a sandbox of this machine.

    `solutions/model` must get every point, an empty submission none, and each other directory
    what `solutions/expected.yaml` says (`name: score`). Exit codes: 0 all of them do; 1 not all;
    2 wrong usage; 5 it cannot be graded.
    """
    with errors_as_exits(), tempfile.TemporaryDirectory(prefix="job-engine-check-") as made:
        scratch = Path(made)
        expected = solutions_of(_directory(source, solutions))
        blobs = LocalBlobs(scratch)
        name, digest = _pack(source, blobs, scratch)
        settings = _settings(sandbox, image, allow_profile or [])
        print(f"{name} is {digest}; checked on {settings.sandbox}")
        for failed in settings.kept_roots_dir.glob("setups-*/*.failed"):
            # A failed setup is not remembered: the author may have fixed it.
            failed.unlink(missing_ok=True)
        with _grader(settings, blobs, scratch) as grader:
            watch = Terminal(scratch, verbose=verbose)
            proofs = list(prove(grader, blobs, digest, expected, watch))
    _show(proofs)
    if any(proof.problems for proof in proofs):
        raise typer.Exit(LOST_POINTS)


def _directory(source: Path, solutions: Path | None) -> Path:
    if not source.exists():
        raise ConfigurationError(f"There is no {source}.")
    directory = solutions or solutions_beside(source)
    if not directory.is_dir():
        raise ConfigurationError(
            f"There is no directory {directory} with reference solutions: put the model answer "
            "into solutions/model, and wrong ones beside it."
        )
    return directory


def _pack(source: Path, blobs: LocalBlobs, scratch: Path) -> tuple[str, str]:
    packed = scratch / "bundle"
    with bundle_of(source) as bundle, packed.open("wb") as out:
        shutil.copyfileobj(bundle.stream, out)
    return source.stem, blobs.add(packed)


def _settings(sandbox: str | None, image: str | None, profiles: list[str]) -> SandboxSettings:
    """Return this machine's settings, overridden by the command's options."""
    base = load_settings(SandboxSettings)
    wanted: Literal["docker", "bubblewrap", "none"] | None = base.sandbox
    if sandbox is not None:
        if sandbox not in ("docker", "bubblewrap"):
            raise ConfigurationError(f"--sandbox {sandbox}: there are docker and bubblewrap")
        wanted = "docker" if sandbox == "docker" else "bubblewrap"
    chosen, _ = choose_sandbox(wanted)
    default = image or base.default_image
    if default is None and chosen == "docker":
        default = local_base_image()
    changes: dict[str, object] = {
        "sandbox": chosen,
        "default_image": default,
        "allow_profiles": [*base.allow_profiles, *profiles],
    }
    if os.geteuid() != 0:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        changes["kept_roots_dir"] = cache / "job-engine" / "roots"
    return load_settings(SandboxSettings, changes)


@contextmanager
def _grader(settings: SandboxSettings, blobs: LocalBlobs, scratch: Path) -> Iterator[Grader]:
    sandbox = make_sandbox(settings)
    grading = load_settings(GradingSettings, {"bundle_cache_dir": scratch / "bundles"})
    label = f"check-{os.getpid()}"
    try:
        yield Grader(
            sandbox=sandbox,
            blobs=blobs,
            catalogue=blobs,
            bundles=BundleCache.from_settings(grading),
            settings=grading,
            policy=settings,
            label=label,
            job_facts=JobFacts(executor=label),
        )
    finally:
        sandbox.close()


def _show(proofs: list[Proof]) -> None:
    table = text.table("", "SOLUTION", "MUST GET", "GOT", "")
    for proof in proofs:
        good = not proof.problems
        table.add_row(
            Text("✔" if good else "✘", style="green" if good else "red"),
            text.clean(proof.solution.name),
            text.clean(proof.solution.expected),
            text.clean(proof.got),
            text.clean("; ".join(proof.problems)),
        )
    text.console().print(table)
    for proof in proofs:
        if proof.problems and proof.results is not None:
            text.console().print(f"\n{text.clean(proof.solution.name)}:")
            text.console().print(score_table(proof.results))
    failed = sum(bool(proof.problems) for proof in proofs)
    if failed:
        print(f"{failed} of {len(proofs)} solutions got what they should not", file=sys.stderr)
