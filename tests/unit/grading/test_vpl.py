"""Moodle VPL: running the scripts of an activity."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from job_engine.grading.contracts.grader_input import vpl_files
from job_engine.grading.contracts.scripts.cases import activity
from tests.support.vpl import ADDS, bundled, encoded

SCRIPTS = Path(activity.__file__).parents[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an activity on a submission in a directory; return exit code and lines of results."""
    student = tmp_path / "student"
    student.mkdir()
    monkeypatch.chdir(student)

    def start(files: dict[str, str], handed_in: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
        assignment, members = bundled(tmp_path / "activity", files)
        for name, text in members.items():
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for name, text in handed_in.items():
            (student / name).parent.mkdir(parents=True, exist_ok=True)
            (student / name).write_text(text)
        results = tmp_path / "tests.jsonl"
        settings = json.loads(vpl_files(assignment)["cases.json"])
        bundle = str(tmp_path / "tests")
        settings |= {"bundle": bundle, "tests": bundle, "results": str(results)}
        settings["run"] = str(student / "vpl_test")
        settings["build"] = str(SCRIPTS / "package_build.sh")
        (tmp_path / "cases.json").write_text(json.dumps(settings))
        code = activity.main(str(tmp_path / "cases.json"))
        lines = results.read_text().splitlines() if results.exists() else []
        return code, [json.loads(line) for line in lines]

    return start


RUN = """#!/bin/bash
. common_script.sh
check_program python3
get_source_files py
{ echo '#!/bin/bash'; echo "exec $PROGRAM $SOURCE_FILE0 \\"\\$@\\""; } >vpl_execution
chmod +x vpl_execution
"""
SUM = "print('Sum:', int(input()) + int(input()))"


@pytest.mark.parametrize(("program", "scores"), [(SUM, [30, 70]), ("print(3)", [30, 0])])
def test_the_script_that_runs_a_submission(run: Any, program: str, scores: list[float]) -> None:
    files = {"vpl_evaluate.cases": ADDS.replace("/^1[0-9]$/", "11"), "vpl_run.sh": RUN}
    code, (header, *tests) = run(files, {"main.py": program})
    assert (code, header["max_score"]) == (0, 100)
    assert [test["score"] for test in tests] == scores
    assert tests[1]["output"] == ("" if scores[1] else "think again")


def test_files_beside_the_cases_are_beside_the_program(run: Any) -> None:
    files = {"vpl_evaluate.cases": "output = 42", "data.txt": "42"}
    _, (_, test) = run(files, {"main.py": "print(open('data.txt').read())"})
    assert test["score"] == 100


def test_reductions_are_taken_off_the_grade(run: Any) -> None:
    files = {"vpl_evaluate.cases": ADDS.replace("70%", "20%"), "vpl_run.sh": RUN}
    _, (_, *tests) = run(files, {"main.py": "print('x')"})
    assert sum(test["score"] for test in tests) == 50
    files["vpl_evaluate.cases"] = ADDS.replace("70%", "90%")
    _, (_, *tests) = run(files, {"main.py": "print(3)"})
    assert sum(test["score"] for test in tests) == 10


EVALUATE = """#!/bin/bash
. common_script.sh
cat >vpl_execution <<'EOF'
#!/bin/bash
. ./vpl_environment.sh
echo "Comment :=>> looked at $VPL_SUBFILE0"
printf '<|--\\n-a block\\n--|>\\n'
python3 main.py
EOF
chmod +x vpl_execution
"""


@pytest.mark.parametrize(
    ("prints", "code", "grade"),
    [
        ("Grade :=>> 40", 0, 40),
        ("Grade :=>> 1\\nGrade :=>>140", 0, 100),
        ("Grade :=>> 7.5 \\nGrade :=>> nan", 0, 7.5),
        ("no grade", 3, None),
    ],
)
def test_an_evaluation_of_its_own(run: Any, prints: str, code: int, grade: float | None) -> None:
    ended, lines = run({"vpl_evaluate.sh": EVALUATE}, {"main.py": f'print("{prints}")'})
    assert ended == code
    assert [line["score"] for line in lines] == ([] if grade is None else [grade])
    if lines:
        assert lines[0]["output"] == "looked at main.py\n-a block"


LOOKS = r"""#!/bin/bash
. common_script.sh
found=$(cat made plain.txt | xargs)
echo "printf 'Comment :=>> $VPL_SUBFILE1 $found\\nGrade :=>> 7'" >vpl_execution
"""


def test_the_common_script_prepares_files(run: Any) -> None:
    files = {
        "vpl_evaluate.sh": LOOKS,
        "pre_vpl_run.sh": "#!/bin/bash\necho before >made\n",
        "plain.txt.b64": "ZGVjb2RlZA==\n",
    }
    handed_in = {"main.py": "", "src/a.py": "", "pre_vpl_run.sh": "touch mine; echo no >made"}
    code, (test,) = run(files, handed_in)
    assert (code, test["score"]) == (0, 7)
    assert test["output"] == "src/a.py before decoded"


def test_a_copy_of_the_default_evaluation_is_not_run(run: Any, tmp_path: Path) -> None:
    default = "#!/bin/bash\n. common_script.sh\ng++ vpl_evaluate.cpp -o .vpl_tester\n"
    cases = ADDS.replace("/^1[0-9]$/", "11")
    files = {"vpl_evaluate.cases": cases, "vpl_evaluate.sh": default}
    assert bundled(tmp_path / "alone", files)[0].contract == "cases"
    _, (_, *tests) = run({**files, "vpl_run.sh": RUN}, {"main.py": SUM})
    assert [test["score"] for test in tests] == [30, 70]
    with_program = {**files, "vpl_evaluate.cpp": "int main() {}"}
    assert bundled(tmp_path / "own", with_program)[0].cases is None


def test_a_failed_compilation_has_no_points(run: Any) -> None:
    script = "#!/bin/sh\necho 'main.c: error'\n"
    code, (test,) = run({"vpl_evaluate.sh": script}, {"main.c": "x"})
    assert (code, test["score"]) == (0, 0)
    assert "main.c: error" in test["output"]


@pytest.mark.parametrize(
    ("program", "score", "ended"),
    [
        ("os.kill(os.getpid(), 11)", 0, "runtime-error"),
        ("sys.exit(139)", 0, "runtime-error"),
        ("sys.exit(3)", 100, None),
        ("sys.exit(255)", 100, None),
    ],
)
@pytest.mark.parametrize("more", ["", "\nExpected exit code = 4"])
def test_a_program_that_died_of_a_signal_is_wrong_for_any_output(
    run: Any, more: str, program: str, score: float, ended: str | None
) -> None:
    cases = f"case = a{more}\noutput = 42"
    text = f"import os, sys\nprint(42, flush=True)\n{program}"
    _, (_, test) = run({"vpl_evaluate.cases": cases, "vpl_run.sh": RUN}, {"main.py": text})
    assert (test["score"], test["extra_data"].get("ended")) == (score, ended)


@pytest.mark.parametrize(
    ("program", "score"),
    [("print('no'); raise SystemExit(3)", 100), ("print('yes')", 100), ("print('no')", 0)],
)
def test_an_expected_exit_code_is_enough(run: Any, program: str, score: float) -> None:
    cases = "case = a\nExpected exit code = 3\noutput = yes"
    _, (_, test) = run({"vpl_evaluate.cases": cases, "vpl_run.sh": RUN}, {"main.py": program})
    assert test["score"] == score


IDIOM = """\
. common_script.sh
check_program python3
python3 -m py_compile main.py || exit
cat common_script.sh >vpl_execution
echo 'python3 main.py' >>vpl_execution
chmod +x vpl_execution
"""
FORGED = "#!/bin/sh\necho 42\necho 'Grade :=>> 100'\n"
BROKEN = "def:"


@pytest.mark.parametrize(
    ("files", "program"),
    [
        ({"vpl_evaluate.sh": IDIOM}, "print('Grade :=>> 100')"),
        ({"vpl_evaluate.cases": "output = 42", "vpl_run.sh": IDIOM}, "print(42)"),
    ],
)
def test_a_script_may_begin_with_the_common_one_and_without_its_shell(
    run: Any, files: dict[str, str], program: str
) -> None:
    code, (*_, test) = run(files, {"main.py": program})
    assert (code, test["score"]) == (0, 100)


@pytest.mark.parametrize(
    "forged",
    [
        {"common_script.sh": "cat >vpl_execution <<'E'\n" + FORGED + "E\nexit"},
        {"vpl_execution": FORGED},
        {"vpl_execution.b64": encoded(FORGED)},
        {"vpl_execution": FORGED, "vpl_evaluate.sh/x": ""},
        {"vpl_environment.sh/x": ""},
        {"vpl_execution/x": "", "vpl_test/x": ""},
    ],
)
@pytest.mark.parametrize("script", ["vpl_evaluate.sh", "vpl_run.sh"])
def test_a_submission_brings_no_file_of_the_harness(
    run: Any, script: str, forged: dict[str, str]
) -> None:
    files = {script: IDIOM}
    if script == "vpl_run.sh":
        files["vpl_evaluate.cases"] = "output = 42"
        forged = {name.replace("evaluate.sh", "run.sh"): text for name, text in forged.items()}
    code, lines = run(files, {"main.py": BROKEN, **forged})
    assert (code, [line["score"] for line in lines]) == (0, [0])
    assert "SyntaxError" in lines[0]["output"]


DECODES = """\
find . -name '*.b64' | while read -r name; do
    [ -f "${name%.b64}" ] || base64 -di "$name" >"${name%.b64}"
done
"""
LOGS = "python3 -m py_compile main.py 2>main.log || exit\ncat common_script.sh >vpl_execution\n"
QUOTED = "echo 'Grade :=>> 100'"
"""No Python; the error that says so is a script that prints a grade."""


@pytest.mark.parametrize("target", ["vpl_execution", "inner/../vpl_execution", "x"])
def test_nothing_is_run_that_was_written_through_a_link(
    run: Any, tmp_path: Path, target: str
) -> None:
    (tmp_path / "student" / "x").symlink_to("vpl_execution")
    (tmp_path / "student" / "inner").mkdir()
    (tmp_path / "student" / "main.log").symlink_to(target)
    handed_in = {"main.py": QUOTED, "x.b64": encoded(FORGED)}
    code, (test,) = run({"vpl_evaluate.sh": LOGS}, handed_in)
    assert (code, test["score"]) == (0, 0)


def test_no_script_of_the_activity_is_written_to_through_a_link(run: Any, tmp_path: Path) -> None:
    (tmp_path / "student" / "main.log").symlink_to("judge.sh")
    makes = "echo 'echo \"Grade :=>> 7\"' >vpl_execution"
    files = {"vpl_evaluate.sh": LOGS.replace("|| exit", "|| exec ./judge.sh"), "judge.sh": makes}
    code, (test,) = run(files, {"main.py": BROKEN, "judge.sh": "mine"})
    assert (code, test["score"]) == (0, 7)


@pytest.mark.parametrize("times", [1, 2])
def test_a_common_script_of_the_activity_may_decode(run: Any, times: int) -> None:
    files = {"vpl_evaluate.sh": IDIOM, "common_script.sh": DECODES * 2}
    forged = encoded(FORGED) if times == 1 else encoded(encoded(FORGED))
    code, (test,) = run(files, {"main.py": BROKEN, "vpl_execution" + ".b64" * times: forged})
    assert (code, test["score"]) == (0, 0)


def test_what_is_printed_before_the_evaluation_is_no_grade(run: Any) -> None:
    script = "cat main.txt\necho true >vpl_execution\n"
    code, lines = run({"vpl_evaluate.sh": script}, {"main.txt": "Grade :=>> 100\n"})
    assert (code, lines) == (3, [])


@pytest.mark.parametrize("name", ["vpl_run.sh", "vpl_test"])
def test_a_submission_brings_no_program_where_there_is_no_script(run: Any, name: str) -> None:
    files = {"vpl_evaluate.cases": "output = 42", "data.txt": ""}
    makes = f"#!/bin/sh\ncat >vpl_execution <<'E'\n{FORGED}E\n"
    forged = makes if name == "vpl_run.sh" else FORGED
    code, lines = run(files, {"main.py": BROKEN, name: forged})
    assert (code, [line["score"] for line in lines]) == (0, [0])


def test_a_directory_in_the_place_of_a_file_of_the_activity(run: Any, tmp_path: Path) -> None:
    (tmp_path / "student" / "away.sh").symlink_to("/proc/self/status")
    files = {"vpl_evaluate.cases": "output = 42", "data.txt": "42", "more/x.txt": ""}
    handed_in = {"main.py": "print(open('data.txt').read())", "data.txt/x": "", "more": ""}
    code, (_, test) = run(files, handed_in)
    assert (code, test["score"]) == (0, 100)


def test_a_program_that_removes_itself_loses_what_comes_after(run: Any) -> None:
    files = {"vpl_evaluate.cases": ADDS, "vpl_run.sh": RUN}
    program = "import os; os.unlink('vpl_test'); os.mkdir('vpl_test'); print(3)"
    code, (_, *tests) = run(files, {"main.py": program})
    assert (code, [test["score"] for test in tests]) == (0, [30, 0])
    assert tests[1]["extra_data"]["ended"] == "runtime-error"


@pytest.mark.parametrize(
    ("program", "grade", "told"),
    [
        ("print('Grade :=>> 100', flush=True)\nimport time; time.sleep(60)", 10, "took longer"),
        ("print('x' * 3_000_000)", 20, ""),
    ],
)
def test_a_program_ends_no_evaluation(run: Any, program: str, grade: float, told: str) -> None:
    ends = f"{IDIOM}echo 'echo; echo \"Grade :=>> 20\"' >>vpl_execution\n"
    options = "name: a\ncontract: vpl\nvpl: {grade_min: 10, max_time_s: 2}\n"
    code, (test,) = run({"vpl_evaluate.sh": ends, "assignment.yaml": options}, {"main.py": program})
    assert (code, test["score"]) == (0, grade)
    assert told in test["output"]


@pytest.mark.parametrize("within", [False, True])
def test_a_program_that_kills_its_evaluation_has_the_lowest_grade(run: Any, within: bool) -> None:
    """Also an evaluation within a script, and though a grade was printed before."""
    files = {"vpl_evaluate.sh": IDIOM, "inner.sh": "python3 main.py; echo no"}
    files["assignment.yaml"] = "name: a\ncontract: vpl\nvpl: {grade_min: 10}\n"
    if within:
        files["vpl_evaluate.sh"] = IDIOM.replace("'python3 main.py'", "./inner.sh")
    program = "import os; print('Grade :=>> 100', flush=True); os.kill(os.getppid(), 9)"
    code, (test,) = run(files, {"main.py": program})
    assert (code, test["score"]) == (0, 10)
    assert "ended by signal 9" in test["output"]


def test_scripts_are_told_as_many_names_as_they_can_be_started_with(
    run: Any, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    (student / os.fsdecode(b"na\xefve")).mkdir()
    (student / os.fsdecode(b"na\xefve/caf\xe9.py")).write_text("")
    for place in (".git", "node_modules", "a/node_modules", "many"):
        (student / place).mkdir(parents=True)
        (student / place / "x.py").write_text("")
    for number in range(700):
        (student / "many" / f"{number:0200}").write_text("")
    script = """. common_script.sh
{ env | grep -c '^VPL_SUBFILE[0-9]'; printf '%s|%s' "$VPL_SUBFILES" "$VPL_SUBFILE1"; } >told
ls "$VPL_SUBFILE1" >/dev/null && echo 'echo "Grade :=>> 7"' >vpl_execution
"""
    (student / os.fsdecode(b"\xe9.py")).write_text("")
    code, (test,) = run({"vpl_evaluate.sh": script}, {"main.py": ""})
    assert (code, test["score"]) == (0, 7)
    count, names = (student / "told").read_bytes().split(b"\n", 1)
    assert names.endswith(b"|\xe9.py")
    told = names.split(b"|")[0].split(b"\n")
    assert told[:2] == [b"main.py", b"\xe9.py"]
    assert (len(told), len(b"\n".join(told)) <= 100_000) == (int(count), True)
    assert not [name for name in told if b".git" in name or b"node_modules" in name]
