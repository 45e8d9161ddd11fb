"""Whatever a phase left in its tree, reading it is bounded and believes nothing."""

from __future__ import annotations

import pytest

from job_engine.sandbox.base import WORKSPACE, Handover, PhaseResult, Tree, Verdict
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import MIB, python, run, sh

OUT = Handover(tree=WORKSPACE, path="out", max_bytes=100_000, max_files=20)


def hand_over(backend: Backend, label: str, script: str, handover: Handover = OUT) -> PhaseResult:
    """Run a script in an empty `out` directory and read what it left there."""
    result = run(
        backend.sandbox,
        label,
        sh(f"mkdir -p out; cd out; {script}", handover=(handover,)),
        trees=(Tree(name=WORKSPACE, size_bytes=64 * MIB, inodes=30_000),),
    )
    assert result.verdict is Verdict.OK, result
    return result


def test_links_and_special_files_are_left_out(backend: Backend, label: str) -> None:
    result = hand_over(
        backend,
        label,
        "echo ok > file; ln -s /etc/passwd link; ln -s file inner; ln -s / root; mkfifo pipe;"
        " python3 -c 'import socket; socket.socket(1).bind(\"sock\")'; ln file hard",
    )
    assert result.files == {"workspace/out/file": b"ok\n", "workspace/out/hard": b"ok\n"}
    assert set(result.left_out) == {
        f"workspace/out/{name}" for name in ("link", "inner", "root", "pipe", "sock")
    }


def test_a_file_over_the_byte_cap_is_left_out(backend: Backend, label: str) -> None:
    result = hand_over(backend, label, "echo a > a; head -c 100001 /dev/zero > big; echo z > z")
    assert set(result.files) == {"workspace/out/a", "workspace/out/z"}
    assert result.left_out == ("workspace/out/big",)


def test_sparse_files_cost_nothing(backend: Backend, label: str) -> None:
    result = hand_over(backend, label, "truncate -s 8M sparse; truncate -s 0 empty")
    assert result.files == {"workspace/out/empty": b""}
    assert result.left_out == ("workspace/out/sparse",)


def test_all_files_together_stay_under_the_cap(backend: Backend, label: str) -> None:
    result = hand_over(backend, label, "for i in 1 2 3 4; do head -c 40000 /dev/zero > $i; done")
    assert sum(map(len, result.files.values())) == 80_000
    assert len(result.left_out) == 2


def test_too_many_files(backend: Backend, label: str) -> None:
    result = hand_over(backend, label, "i=0; while [ $i -lt 50 ]; do i=$((i+1)); : > $i; done")
    assert len(result.files) == 20
    assert len(result.left_out) == 30


def test_a_crowd_of_files_is_not_waited_for(backend: Backend, label: str) -> None:
    program = "import os\nfor i in range(25_000): os.close(os.open(f'out/{i}', 65, 0))"
    spec = python(f"import os; os.mkdir('out')\n{program}", handover=(OUT,))
    trees = (Tree(name=WORKSPACE, size_bytes=64 * MIB, inodes=30_000),)
    result = run(backend.sandbox, label, spec, trees=trees)
    assert len(result.files) == 20
    assert 0 < len(result.left_out) <= 1_001


def test_locked_directories_are_opened(backend: Backend, label: str) -> None:
    result = hand_over(
        backend, label, "mkdir d; echo x > d/f; chmod 0 d/f; chmod 0 d; cd ..; chmod 0 out"
    )
    assert result.files == {"workspace/out/d/f": b"x\n"}


@pytest.mark.parametrize("script", ["cd ..; rmdir out", "cd ..; rmdir out; echo x > out"])
def test_no_directory_is_no_files(backend: Backend, label: str, script: str) -> None:
    assert hand_over(backend, label, script).files == {}


@pytest.mark.parametrize("target", ["/etc", "/", ".", "/mnt/submission"])
def test_a_link_in_place_of_the_directory_is_not_followed(
    backend: Backend, label: str, target: str
) -> None:
    result = hand_over(backend, label, f"cd ..; rmdir out; echo x > f; ln -s {target} out")
    assert result.files == {}
    assert result.left_out == ("workspace/out",)


def test_names_may_be_anything(backend: Backend, label: str) -> None:
    program = (
        "import os\n"
        "for n in (b'new\\nline', b'\\xff\\xfe', b'a b', '\\u202e'.encode(), b'..x', b'-rf'):\n"
        "    open(n, 'wb').write(n)"
    )
    result = hand_over(backend, label, f'python3 -c "{program}"')
    assert result.files["workspace/out/new\nline"] == b"new\nline"
    assert result.files["workspace/out/\ufffd\ufffd"] == b"\xff\xfe"
    assert len(result.files) == 6
    for name in result.files:
        name.encode()


def test_deep_nesting(backend: Backend, label: str) -> None:
    program = (
        "import os\n"
        "for _ in range(3000): os.mkdir('d' * 50); os.chdir('d' * 50)\n"
        "open('f', 'w').write('deep')"
    )
    result = hand_over(backend, label, f'echo x > f; python3 -c "{program}"')
    assert result.files == {"workspace/out/f": b"x\n"}
    assert len(result.left_out) == 1


def test_the_tree_root_can_be_handed_over(backend: Backend, label: str) -> None:
    result = hand_over(backend, label, "echo x > f", Handover(tree=WORKSPACE))
    assert result.files == {"workspace/out/f": b"x\n"}


def test_handover_after_a_failure_too(backend: Backend, label: str) -> None:
    spec = sh("mkdir out; echo x > out/f; exit 1", handover=(OUT,))
    result = run(backend.sandbox, label, spec)
    assert (result.verdict, result.files) == (Verdict.EXIT, {"workspace/out/f": b"x\n"})
