"""Requests whose bodies are malformed: JSON, encodings, lengths, forms."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.hostile.http.requests import MAX_BODY, VALID, post, request, text
from tests.unit.api.support import EXECUTOR

WRONG: Final[Sequence[tuple[str, Sequence[Any]]]] = (
    ("action", (None, 5, "", " ", [], {}, True)),
    ("priority", (-1, 1000, 1.5, "7", None, [], 10**12)),
    ("progress", (101, -1, 50.0, "1", [])),
    ("version", (-1, "2", 2.0, 2**40)),
    ("execution-mode", ("shove", 1, None, [])),
    ("description", (5, None, [], {})),
    ("affected-resources", ("x", [1], [{}], [{"href": "-"}])),
    ("target-resource", ("x", 1, {}, {"href": 5}, {"href": "A B"})),
    ("acl", ([], "x", 5, {"nobody": ["user/a"]}, {"manage": ["no slash"]})),
    ("expiry", ("soon", 5, "2024-02-30T00:00:00Z", "2024-01-01")),
    ("not-before", ("now", [], "9999-99-99T00:00:00Z")),
    ("max-attempts", (0, -1, "3", 1.0, 10**6)),
    ("parent-job", ("job", "user/x", 5)),
    ("payload", (5, [], "", None)),
    ("no-such-attribute", (1,)),
)


def truncated_json(random: Random) -> bytes:
    whole = json.dumps(VALID).encode()
    return post(whole[: random.randrange(1, len(whole) - 1)])


def not_json(random: Random) -> bytes:
    texts = (
        "{'a': 1}",
        "{a: 1}",
        "nul",
        "NaN",
        "[1,]",
        '{"a" 1}',
        "01",
        "\ufeff{}",
        "{}{}",
        "1e999",
    )
    return post(random.choice(texts).encode(), "X-Request-ID: " + "x" * random.randrange(200))


def no_object(random: Random) -> bytes:
    return post(random.choice((b"[]", b'"x"', b"1", b"null", b"true", b"[{}]")))


def wrong_types(random: Random) -> bytes:
    attribute, values = random.choice(WRONG)
    return post(json.dumps({**VALID, attribute: random.choice(values)}).encode())


def wrong_bulk(random: Random) -> bytes:
    bad: Any = random.choice(([], {}, "x", [1], [{}], [VALID, {"action": 5}], [[]] * 50))
    return post(json.dumps({"jobs": bad}).encode(), "bulk: yes")


def wrong_messages(random: Random) -> bytes:
    path = random.choice(("claim", "report", "token", "cleanup"))
    body: Any = random.choice(
        ({"claims": 5}, {"executor": []}, {"reports": [{}]}, {"fence": "x"}, [])
    )
    target = f"/api/engine/{path}"
    return request("POST", target, json.dumps(body).encode(), who=EXECUTOR)


def wrong_login(random: Random) -> bytes:
    name = text(random, random.randrange(1, 50))
    template = {"href": "session-template/password", "username": name, "password": "x"}
    spoilt = random.choice(
        (
            {"template": {**template, "x": 1}},
            {"template": 5},
            {},
            {"template": template},
            {"template": {**template, "href": "session-template/nope"}},
            {"template": {**template, "password": []}},
        )
    )
    return request("POST", "/api/session", json.dumps(spoilt).encode(), who="")


def deep(random: Random) -> bytes:
    depth = random.choice((101, 1000, 20_000))
    opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
    inner = opening * depth + "1" + closing * (depth if random.random() < 0.5 else 0)
    return post(f'{{"action": "noop", "target-resource": {inner}}}'[:MAX_BODY].encode())


def nul_bytes(random: Random) -> bytes:
    return random.choice(
        (
            post(b'{"action": "no\x00op"}'),
            post(b"\x00" * random.randrange(1, 1000)),
            request("GET", "/api/job/%00"),
            request("GET", "/api/job?filter=%00"),
            request("GET", "/api/job", b"", "X-Nul: a\x00b"),
            request("GET", "/api/\x00job"),
        )
    )


def bad_encodings(random: Random) -> bytes:
    broken = bytes(random.randrange(128, 256) for _ in range(random.randrange(1, 40)))
    return random.choice(
        (
            post(b'{"action": "' + broken + b'\xff"}'),
            post(b'{"action": "\\ud800"}'),
            request("GET", "/api/job/" + broken.decode("latin-1")),
            request("GET", "/api/job/%ff%fe%80"),
            request("GET", "/api/job?filter=%ff%fe"),
        )
    )


def huge_body(random: Random) -> bytes:
    size = MAX_BODY + random.randrange(1, 20 * MAX_BODY)
    return post(b'{"action": "' + b"x" * size + b'"}')


def huge_chunks(random: Random) -> bytes:
    chunk = b"x" * random.randrange(1000, 50_000)
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(chunk), chunk) for _ in range(2 * MAX_BODY // len(chunk))
    )
    return post(pieces + b"0\r\n\r\n", "Transfer-Encoding: chunked")


def bad_chunks(random: Random) -> bytes:
    body = random.choice(
        (
            b"zz\r\n{}\r\n",
            b"-1\r\n{}\r\n",
            b"fffffffffffffffff\r\n",
            b"2\r\n{}xx\r\n0\r\n\r\n",
            b"\r\n\r\n",
            b"2;" + b"\x00\r\n{}\r\n",
            b"0x2\r\n{}\r\n0\r\n\r\n",
            b"2 2\r\n{}\r\n",
        )
    )
    return post(body, "Transfer-Encoding: chunked")


def bad_gzip(random: Random) -> bytes:
    packed = gzip.compress(json.dumps(VALID).encode())
    body = random.choice(
        (
            random.randbytes(random.randrange(1, 500)),
            packed[: random.randrange(1, len(packed))],
            packed + b"x" * random.randrange(1, 100),
            packed + packed,
            gzip.compress(b'{"action": "' + b"x" * (50 * MAX_BODY)),
        )
    )
    return post(body, "Content-Encoding: gzip")


def unknown_encoding(random: Random) -> bytes:
    return post(
        b"{}", f"Content-Encoding: {random.choice(('br', 'zstd', 'deflate', 'gzip, gzip'))}"
    )


def bad_multipart(random: Random) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    media_type, body = random.choice(
        (
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=b", b"garbage"),
            (
                "multipart/form-data; boundary=b",
                part.replace(b'"file"', b'"other"') + b"x\r\n--b--",
            ),
            (
                "multipart/form-data; boundary=b",
                b"--b\r\n" + b"X: y\r\n" * 20_000 + b"\r\nx\r\n--b--",
            ),
            ("multipart/form-data; boundary=" + "b" * 300, b"--b"),
            ("multipart/form-data; boundary=b", b"--b\r\nno colon\r\n\r\n"),
            ("application/json", b"{}"),
            ("application/x-www-form-urlencoded", b"a=b"),
        )
    )
    return request("POST", "/api/blob", body, media_type=media_type)


def garbage(random: Random) -> bytes:
    return random.choice(
        (
            random.randbytes(random.randrange(1, 2000)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(500),
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n" * random.randrange(1, 1000),
            b"\x00" * random.randrange(1, 1000),
            b"",
        )
    )


def half(random: Random) -> bytes:
    whole = post(json.dumps(VALID).encode())
    return whole[: random.randrange(1, len(whole) - 1)]
