"""The operator's policy: what an assignment may ask for, checked when it is loaded.

`CHECKS` is the table of checks. Each yields refusals, with the place in the file and the setting
that would have to change. The sandboxes check every request again, so this is not the last line
of defence; its purpose is to name the line of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from job_engine.errors import (
    AssignmentError,
    ConfigurationError,
    ImageUnavailableError,
    SandboxRefusedError,
)
from job_engine.grading.assignment import (
    Assignment,
    ClonePhase,
    Phase,
    Program,
    parse,
)
from job_engine.grading.flavours import Flavour, LimitOverrides, flavours
from job_engine.grading.yaml_lines import Lines, Path
from job_engine.sandbox.base import Limits
from job_engine.sandbox.policy import is_listed, may_reach
from job_engine.settings import GradingSettings, PolicySettings, Settings

Identify = Callable[[str | None], Collection[str]]
"""Returns the names by which an image may be allowed; the argument None is the default image."""


@dataclass(frozen=True)
class Refusal:
    """A request of an assignment that the policy does not allow."""

    path: Path
    problem: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An assignment that is checked, with the policy and what else checks need."""

    assignment: Assignment
    flavour: Flavour
    policy: PolicySettings
    lines: Lines
    identify: Identify | None
    """None: the images are elsewhere, so only names with a digest can be checked."""

    def phases(self) -> Iterator[tuple[Path, Phase | ClonePhase | Program, Limits]]:
        """Yield path, phase and limits of each phase, and of the program of a split run."""
        phases = self.assignment.phases
        for name in ("clone", "build", "test", "report"):
            phase: Phase | ClonePhase | None = getattr(phases, name)
            if phase is not None:
                limits = self.assignment.phase_limits(phase, self.flavour)
                yield ("phases", name), phase, limits
        if (program := phases.test.program) is not None:
            limits = self.assignment.program_limits(program, self.flavour)
            yield ("phases", "test", "program"), program, limits


def load_assignment(
    text: bytes,
    known: Mapping[str, Flavour],
    policy: PolicySettings,
    identify: Identify | None = None,
) -> Assignment:
    """Parse `assignment.yaml`, and check it against the operator's policy.

    Raises `AssignmentError` with the file and line of every problem and refusal, and
    `SandboxError` when an image cannot be inspected.
    """
    assignment, lines = parse(text)
    assignment = _with_mapped_image(assignment, policy.image_map)
    flavour = known.get(assignment.flavour)
    if flavour is None:
        names = ", ".join(sorted(known))
        raise lines.error(("flavour",), f"no flavour '{assignment.flavour}'; there are {names}")
    subject = Subject(
        assignment=assignment, flavour=flavour, policy=policy, lines=lines, identify=identify
    )
    refused = [refusal for check in CHECKS for refusal in check(subject)]
    if refused:
        messages = [lines.error(refusal.path, refusal.problem).message for refusal in refused]
        raise AssignmentError("\n".join(dict.fromkeys(messages)))
    return assignment


def _with_mapped_image(assignment: Assignment, images: Mapping[str, str | None]) -> Assignment:
    """Replace an image that the operator maps to another one (setting `image_map`)."""
    name = assignment.image or ""
    for known in (name, name.partition(":")[0]):
        if known in images:
            return assignment.model_copy(update={"image": images[known]})
    return assignment


def _limits(subject: Subject) -> Iterator[Refusal]:
    for place, _, limits in subject.phases():
        for key in LimitOverrides.model_fields:
            wanted, allowed = getattr(limits, key), getattr(subject.policy, f"max_{key}")
            if not wanted <= allowed:
                places: list[Path] = [(*place, "limits", key), ("limits", key)]
                where = next((path for path in places if path in subject.lines), ("flavour",))
                yield Refusal(
                    where,
                    f"phase {place[-1]} asks for {key} {wanted:,}; the operator allows at most "
                    f"{allowed:,} (setting max_{key})",
                )


def _trees(subject: Subject) -> Iterator[Refusal]:
    for key in ("disk_bytes", "inodes"):
        wanted, allowed = getattr(subject.flavour, key), getattr(subject.policy, f"max_{key}")
        if wanted > allowed:
            yield Refusal(
                ("flavour",),
                f"'{subject.assignment.flavour}' has {key} {wanted:,}; the operator allows at most "
                f"{allowed:,} (setting max_{key})",
            )


def _devices(subject: Subject) -> Iterator[Refusal]:
    for place, phase, _ in subject.phases():
        if getattr(phase, "kvm", False) and not subject.policy.allow_kvm:
            yield Refusal(
                (*place, "kvm"), "the operator does not allow /dev/kvm (setting allow_kvm)"
            )


def _profiles(subject: Subject) -> Iterator[Refusal]:
    for place, phase, _ in subject.phases():
        profile = getattr(phase, "profile", None)
        if profile is not None and profile not in subject.policy.allow_profiles:
            yield Refusal(
                (*place, "profile"),
                f"phase {place[-1]} needs the profile {profile}, which the operator has not "
                f"granted (setting allow_profiles, such as "
                f"JOB_ENGINE_ALLOW_PROFILES='[\"{profile}\"]')",
            )


def _reach(subject: Subject) -> Iterator[Refusal]:
    for place, phase, _ in subject.phases():
        for number, text in enumerate(getattr(phase, "reach", ())):
            host, _, port = text.rpartition(":")
            if not may_reach(subject.policy.allow_reach, host, int(port)):
                yield Refusal(
                    (*place, "reach", number),
                    f"the operator does not let phases reach {text} (setting allow_reach)",
                )


def _images(subject: Subject) -> Iterator[Refusal]:
    if subject.policy.allow_images is None:
        return
    named: list[tuple[Path, str | None]] = [(("image",), subject.assignment.image)]
    named += [((*place, "image"), phase.image) for place, phase, _ in subject.phases()]
    for path, image in named:
        if (image is not None or path == ("image",)) and not _may_use(subject, image):
            what = f"the image {image}" if image is not None else "the default image"
            yield Refusal(
                path,
                f"{what} is none that the operator allows; name one of those in the setting "
                "allow_images, by its digest",
            )


def _may_use(subject: Subject, image: str | None) -> bool:
    allowed = subject.policy.allow_images
    if image is not None and is_listed(allowed, [image]):
        return True
    if subject.identify is None:
        # The image behind a tag is known on the executor only.
        return image is None or "sha256:" not in image
    try:
        return is_listed(allowed, subject.identify(image))
    except (ImageUnavailableError, SandboxRefusedError):
        # Not here, and not to be fetched: see `Sandbox.image_identities`.
        return False


CHECKS: Final[tuple[Callable[[Subject], Iterator[Refusal]], ...]] = (
    _limits,
    _trees,
    _devices,
    _profiles,
    _reach,
    _images,
)
"""All checks, in the order in which refusals are listed."""


def terms_of(policy: PolicySettings, grading: GradingSettings) -> dict[str, Any]:
    """Return an executor's policy as JSON, for `refuse_by_terms` in the API."""
    fields = set(PolicySettings.model_fields) - set(Settings.model_fields)
    return {
        "policy": policy.model_dump(mode="json", include=fields),
        "flavours": grading.flavours,
    }


def refuse_by_terms(text: bytes, terms: Collection[Mapping[str, Any]]) -> None:
    """Raise `AssignmentError` when no executor that published its policy would take it.

    Images are checked by digest only: a tag means what it means on the executor.
    """
    refusal: AssignmentError | None = None
    for published in terms:
        try:
            known = flavours(published["flavours"])
            load_assignment(text, known, PolicySettings.model_validate(published["policy"]))
        except AssignmentError as error:
            refusal = refusal or error
        except (KeyError, ValueError, ConfigurationError):
            return  # Published by another version, whose policy cannot be judged here.
        else:
            return
    if refusal is not None:
        raise refusal
