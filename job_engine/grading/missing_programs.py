"""Programs that an image lacks: the fault of whoever chose or made it, not of a submission.

What a phase printed suggests names, and is not believed: each is looked for in the image, in a
sandbox without the submission. Names count that the assignment's own command has; in a build
compilers, interpreters and the like too, whoever calls them, and in tests those of them that
the assignment's files name: or a program that fails could print what no image has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, Final

from job_engine.grading.assignment import Assignment
from job_engine.grading.plan import PROGRAM, Plan
from job_engine.grading.results import Outcome, Results
from job_engine.grading.split import SERVE_WORDS
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import WORKSPACE, Inputs, Mount, PhaseResult, PhaseSpec, Sandbox, Tree

_NAMES: Final = """
R Rscript ant bats bazel c++ cabal cargo cc check50 clang clang++ cmake cobc csc dart dotnet
elixir erl expect fpc g++ gcc gdb gfortran ghc gnatmake go gradle iverilog java javac jq julia
kotlin kotlinc latex lua make mcs mono mvn mysql nasm node npm npx ocaml ocamlc octave perl php
pip pip3 prolog psql pypy3 pytest python python2 python3 racket ruby rustc sbcl scala scalac
sqlite3 stack swift swiftc swipl tsc valgrind yarn
"""
_TOOLS: Final = frozenset(_NAMES.split())
"""Whose absence may be the image's fault also when something else than the command calls them."""
_NAME: Final = r"([A-Za-z0-9][A-Za-z0-9_.+-]{0,40})"
_NOT_FOUND: Final = re.compile(
    rf"(?:^|[^\w./+-]){_NAME}: (?:command )?not found|execvp {_NAME}: No such file", re.MULTILINE
)
_NO_SUCH_FILE: Final = re.compile(
    rf"(?:^|[^\w./+-]){_NAME}\W?: No such file or directory"
    rf"|No such file or directory: '{_NAME}'",
    re.MULTILINE,
)
"""What also a file that is missing looks like."""
_MAX_TEXT: Final = 65_536
_MAX_NAMES: Final = 8
_COMMAND_NOT_FOUND: Final = 127
_WORD: Final = re.compile(r"(?<![\w./+-])[A-Za-z0-9][A-Za-z0-9_.+-]*(?![\w/])")
_CHUNK: Final = 1 << 20
_OVERLAP: Final = 64
"""Bytes; more than any name has."""
_NOT_STARTED: Final = f"exit code {_COMMAND_NOT_FOUND}"
_PHASE: Final = "search"
_WORKDIR: Final = "/mnt/search"
_TREE: Final = Tree(name=WORKSPACE, size_bytes=2**20, inodes=64)
_Named = Callable[[Collection[str]], Sequence[str]]
"""Returns those of some names that the assignment names."""
Search = Callable[[PhaseSpec, tuple[str, ...]], tuple[str, ...]]
"""Returns those of some names that are no programs in the image of a phase."""
_PROBE: Final = 'for name; do command -v "$name" >/dev/null 2>&1 || printf "%s\\n" "$name"; done'


def blame_image(
    results: Results,
    assignment: Assignment,
    plan: Plan,
    phases: Mapping[str, PhaseResult],
    search: Search,
    tests: IO[bytes] | None,
) -> Results:
    """Return the results, as the assignment's fault if a program is missing in its image.

    `tests` are its files: a tar without compression, None where it has none.
    """
    found = next(
        (
            (spec, missing)
            for spec, names in _suspects(results, plan, phases, partial(_named, assignment, tests))
            if (missing := search(spec, names))
        ),
        None,
    )
    if found is None:
        return results
    spec, missing = found
    image = spec.image or plan.image
    where = f"the image {image}" if image else "the executors' default image"
    message = (
        f"The assignment cannot be graded: {where} has no {' and no '.join(missing)}, which the "
        f"phase {spec.name} needs. Install it there, or name another `image` in the assignment."
    )
    if _gave_results(results, assignment, spec):
        return results.model_copy(update={"notes": [*results.notes, message]})
    verdict = FinalVerdict.HARNESS_FAILED
    return results.model_copy(
        update={
            "outcome": Outcome.HARNESS_FAILED,
            "verdict": verdict,
            "fault": verdict.fault,
            "score": None,
            "message": message,
        }
    )


def _gave_results(results: Results, assignment: Assignment, spec: PhaseSpec) -> bool:
    """Whether the tests judged, and gave points: what is missing may be a part of them only."""
    if results.outcome is not Outcome.GRADED or spec.name == PROGRAM:
        return False
    return assignment.results.format != "stdout" and bool(results.score)


def _suspects(
    results: Results, plan: Plan, phases: Mapping[str, PhaseResult], named: _Named
) -> Iterator[tuple[PhaseSpec, tuple[str, ...]]]:
    """Yield phases that may have ended for want of a program, and the names of such programs."""
    if results.lost_nothing or results.outcome is Outcome.LIMIT:
        return
    for spec in plan.specs:
        result = phases.get(spec.name)
        if result is None:
            continue
        if spec.name == PROGRAM:
            # Each run of it ended like this; what it printed went to the harness.
            if any(_NOT_STARTED in test.output for test in results.tests):
                yield spec, _words_of(spec)[:_MAX_NAMES]
        elif spec.name == "test":
            own, tools = _printed(spec, result, [test.output for test in results.tests])
            if names := [*own, *named(tools)]:
                yield spec, tuple(names[:_MAX_NAMES])
        elif not result.ok:
            own, tools = _printed(spec, result, [])
            if names := [*own, *tools]:
                yield spec, tuple(names[:_MAX_NAMES])


def _printed(
    spec: PhaseSpec, result: PhaseResult, outputs: list[str]
) -> tuple[list[str], list[str]]:
    """Return names that a phase or its tests printed as not found: of its command, and of tools."""
    streams = [
        data[-_MAX_TEXT:].decode("utf-8", "replace") for data in (result.stdout, result.stderr)
    ]
    lines = "\n".join([*streams, "\n".join(outputs)[-_MAX_TEXT:]])
    not_found = [name for match in _NOT_FOUND.findall(lines) for name in match]
    no_such_file = [name for match in _NO_SUCH_FILE.findall(lines) for name in match]
    own = dict.fromkeys(name for name in not_found if name in _words_of(spec))
    tools = dict.fromkeys(name for name in [*not_found, *no_such_file] if name in _TOOLS)
    return [*own], [name for name in tools if name not in own]


def _named(
    assignment: Assignment, tests: IO[bytes] | None, names: Collection[str]
) -> Sequence[str]:
    """Return those of some names that are words in the assignment or its files."""
    if not names:
        return []
    words = {name: re.compile(rb"(?<!\w)%s(?!\w)" % re.escape(name.encode())) for name in names}
    found: set[str] = set()
    for text in (assignment.model_dump_json().encode(), *_overlapping(tests)):
        found |= {name for name, word in words.items() if word.search(text)}
    return [name for name in names if name in found]


def _overlapping(tests: IO[bytes] | None) -> Iterator[bytes]:
    """Yield parts of a stream that overlap, so that each word is whole in one of them."""
    if tests is None:
        return
    tests.seek(0)
    before = b""
    while chunk := tests.read(_CHUNK):
        yield before + chunk
        before = chunk[-_OVERLAP:]
    tests.seek(0)


def _words_of(spec: PhaseSpec) -> tuple[str, ...]:
    """Return the words of a command that may be programs; of text for a shell all its words."""
    command = spec.command
    if spec.name == PROGRAM:
        command = command[SERVE_WORDS:]
    if command[:2] == ("sh", "-c"):
        return tuple(dict.fromkeys(_WORD.findall(command[2])))
    return command[:1] if _WORD.fullmatch(command[0]) else ()


def image_search(sandbox: Sandbox, plan: Plan, label: str) -> Search:
    """Return a search in the images of a plan's phases; `label` owns its slots."""

    def search(spec: PhaseSpec, names: tuple[str, ...]) -> tuple[str, ...]:
        probe = replace(
            spec,
            name=_PHASE,
            command=("sh", "-c", _PROBE, _PHASE, *names),
            mounts=(Mount(tree=WORKSPACE, target=_WORKDIR),),
            workdir=_WORKDIR,
            reach=(),
            kvm=False,
            handover=(),
            follow=None,
            companion=None,
            live=False,
        )
        slot = sandbox.prepare(label=label, phases=(probe,), trees=(_TREE,), image=plan.image)
        try:
            slot.go(Inputs())
            ended = [event for event in slot.collect() if isinstance(event, PhaseResult)]
        finally:
            slot.destroy()
        missing = {line for result in ended if result.ok for line in result.stdout.split()}
        return tuple(name for name in names if name.encode() in missing)

    return search
