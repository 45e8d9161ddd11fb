"""Opens one hole at a time, and shows that the corpus notices."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import SandboxSettings
from tests.hostile.corpus import host
from tests.hostile.corpus.bench import Bench
from tests.hostile.corpus.holes import HOLES
from tests.hostile.corpus.rows import load

ROWS = load()
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_noticed(
    bench: Bench, settings: SandboxSettings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hole = HOLES[name]
    with monkeypatch.context() as patch, host.canaries():
        (hole.docker if bench.desk.name == "docker" else hole.bubblewrap)(patch)
        sandbox = make_sandbox(settings)
        try:
            with ThreadPoolExecutor() as pool:
                rows = [ROWS[program] for program in hole.programs]
                found = dict(
                    zip(hole.programs, pool.map(bench.on(sandbox).grade, rows), strict=True)
                )
        finally:
            sandbox.close()
    bench.ears.forget()
    bench.desk.sandbox.sweep("corpus")
    for program, noticed in hole.programs.items():
        assert any(re.search(noticed, text) for text in found[program]), found
