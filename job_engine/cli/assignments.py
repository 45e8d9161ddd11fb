"""`job-engine assignment`: publish bundles under names, and list them.

A job pins the digest of its assignment, so publishing a new version under the same name
changes nothing for jobs that were created before.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.client import Api
from job_engine.errors import ConfigurationError
from job_engine.grading.assignment import FILE_NAME, NAME, Assignment
from job_engine.grading.bundles import DIGEST, document_of
from job_engine.grading.catalogue import ApiCatalogue
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.yaml_lines import load, validate

app = typer.Typer(no_args_is_help=True, help="Assignments: add one, list them.")


@app.command()
def add(
    source: Annotated[
        Path,
        typer.Argument(
            help="A directory with assignment.yaml and tests/, or what a course has already: "
            "a Gradescope autograder, a PrairieLearn question, an Autolab lab, a GitHub Classroom "
            "repository, a problem package (ICPC, Polygon), a Moodle VPL activity, a Submitty "
            "gradeable, a check50 problem; an archive of one too.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of what has no assignment.yaml; else its file name.")
    ] = None,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Check an assignment, and publish it; does nothing when it is published already."""
    with connected(api_url, data_dir) as api:
        assignment, digest = upload(api, source, name)
        fresh = ApiCatalogue(api).digest_of(assignment.name) != digest
        if fresh:
            body = {"name": assignment.name, "digest": digest, "description": assignment.title}
            api.add("assignment", {key: value for key, value in body.items() if value})
    print(f"{assignment.name} is {'' if fresh else 'already '}{digest}")
    if assignment.autolab is not None and assignment.autolab.handin is None:
        print(
            "No .yml of the lab says handin_filename, so that what is submitted keeps its names. "
            "An assignment.yaml in it can say it: `autolab: {handin: handin.tar}`.",
            file=sys.stderr,
        )
    if assignment.phases.test.profile is not None:
        print(
            f"It needs the profile {assignment.phases.test.profile} ({assignment.contract}): "
            "executors grade it once their operator has put that into allow_profiles.",
            file=sys.stderr,
        )


@app.command("list")
def list_(api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the assignments that you may see, the newest first."""
    with connected(api_url, data_dir) as api:
        found = api.search("assignment", orderby="created:desc", last=1000)
        documents: list[dict[str, Any]] = [resource.data for resource in found.resources]
    if as_json:
        text.print_json(documents)
        return
    table = text.table("NAME", "VERSION", "TITLE", "DIGEST")
    for document in documents:
        table.add_row(
            text.clean(document["name"]),
            str(document["version"]),
            text.one_line(document.get("description", "")),
            text.clean(document["digest"]),
        )
    text.console().print(table)


def upload(api: Api, source: Path, name: str | None = None) -> tuple[Assignment, str]:
    """Check and upload an assignment; returns it and the digest of its bundle.

    Raises `AssignmentError` or `ArchiveError`, saying what to mend, before anything is sent.
    """
    with tempfile.NamedTemporaryFile(suffix=".tar") as bundle:
        with bundle_of(source, name) as packed:
            while chunk := packed.stream.read(1 << 16):
                bundle.write(chunk)
        bundle.flush()
        bundle.seek(0)
        # Without the policy, which only executors know.
        assignment = validate(Assignment, *load(document_of(bundle), FILE_NAME))
        return assignment, api.upload_blob(Path(bundle.name))


def pinned(api: Api, assignment: str) -> str:
    """Return the digest that a name or digest means now.

    A name that the caller cannot see is left for the executor to resolve.
    """
    if re.fullmatch(r"[0-9a-f]{64}", assignment):
        return f"sha256:{assignment}"
    if DIGEST.fullmatch(assignment):
        return assignment
    if not NAME.fullmatch(assignment):
        raise ConfigurationError(
            f"{assignment!r} is no assignment: give its name (`job-engine assignment list` shows "
            "them) or its digest, sha256:…"
        )
    return ApiCatalogue(api).digest_of(assignment) or assignment
