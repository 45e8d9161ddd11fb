"""Where the operator lists images, phases run in those and no others."""

from __future__ import annotations

from contextlib import closing

import pytest

from job_engine.errors import ImageUnavailableError, SandboxRefusedError
from job_engine.sandbox.base import Verdict
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import run, run_all, sh

OTHER = f"sha256:{'0' * 64}"


def test_only_listed_images_are_run_in(backend: Backend, label: str) -> None:
    identities = backend.sandbox.image_identities(None)
    assert identities
    for identity in identities:
        with closing(backend.make(allow_images=[OTHER, identity])) as sandbox:
            assert run(sandbox, label, sh("true")).verdict is Verdict.OK
    with closing(backend.make(allow_images=[OTHER])) as sandbox:
        with pytest.raises(SandboxRefusedError, match="allow_images"):
            run(sandbox, label, sh("true"))
        beside = sh("true", companion=sh("true"))
        with pytest.raises(SandboxRefusedError):
            run_all(sandbox, label, beside)
        with pytest.raises((SandboxRefusedError, ImageUnavailableError)):
            run(sandbox, label, sh("true", image="absent.example/not-listed:1"))
