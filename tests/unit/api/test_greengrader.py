"""GreenGrader's form, as curl sends it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest

from tests.unit.api.support import ANON, JANE, LMS, Client


def send(api: Client, who: str, **form: Any) -> Any:
    data = {key: value for key, value in form.items() if isinstance(value, str)}
    files = {key: value for key, value in form.items() if not isinstance(value, str)}
    headers = {"nuvla-authn-info": who}
    return api.http.post("/submit", data=data, files=files, headers=headers)


def payload_of(api: Client, answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "Job created"
    job = api(LMS, "GET", answer.json()["job"]).json()
    assert job["action"] == "grade"
    return json.loads(job["payload"])


def test_it_says_that_it_runs(api: Client) -> None:
    assert api.http.get("/", follow_redirects=False).json() == {"message": "Server is running"}


def test_a_file_becomes_a_job_and_again_another(api: Client) -> None:
    script = ("script.py", b"print('hello')\n")
    first, second = (send(api, LMS, name="Ann", image="Hello", script=script) for _ in range(2))
    assert payload_of(api, first) == {
        "assignment": "Hello",
        "student": "Ann",
        "submission": {"files": {"script.py": {"base64": "cHJpbnQoJ2hlbGxvJykK"}}},
    }
    assert first.json()["job"] != second.json()["job"]


def test_a_zip_is_uploaded(api: Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.py", "x" * 100)
    answer = send(api, LMS, name="ann", image="hello", script=("a.zip", packed.getvalue()))
    blob = payload_of(api, answer)["submission"]["archive"]["blob"]
    assert api(LMS, "GET", f"{blob}/content").content == packed.getvalue()


@pytest.mark.parametrize(
    ("who", "form", "status"),
    [
        (LMS, {"name": "ann", "script": ("a", b"x")}, 400),
        (LMS, {"name": "ann", "image": "", "script": ("a", b"x")}, 400),
        (LMS, {"name": "ann", "image": "hello"}, 400),
        (LMS, {"name": "ann", "image": "hello", "script": "text"}, 400),
        (JANE, {"name": "ann", "image": "hello", "script": ("a", b"x")}, 403),
        (ANON, {"name": "ann", "image": "hello", "script": ("a", b"x")}, 403),
    ],
)
def test_invalid_forms_are_refused(
    api: Client, who: str, form: dict[str, Any], status: int
) -> None:
    answer = send(api, who, **form)
    assert answer.status_code == status, answer.text


def test_garbage_is_refused(api: Client) -> None:
    headers = {"nuvla-authn-info": LMS, "content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\n", b"--y--"):
        assert api.http.post("/submit", content=body, headers=headers).status_code == 400
