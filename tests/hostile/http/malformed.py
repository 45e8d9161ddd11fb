"""Requests that are none, or ask for what cannot be: bytes for a socket, drawn from a seed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.unit.api.support import EXECUTOR, LMS

MAX_BODY: Final = 100_000
"""What the server is told to accept at most, in bytes."""
_VALID: Final = {
    "action": "noop",
    "priority": 7,
    "tags": ["a", "b"],
    "payload": '{"seconds": 1}',
    "target-resource": {"href": "deployment/x"},
}
_WRONG: Final[Sequence[tuple[str, Sequence[Any]]]] = (
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
_PATHS: Final = ("/api/job", "/api/session", "/api/credential", "/api/engine/claim", "/api/user")


@dataclass(frozen=True)
class Malformed:
    """What is sent; `speaks` is whether it is HTTP enough to deserve an answer."""

    kind: str
    data: bytes
    speaks: bool = True


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *lines: str,
    who: str = LMS,
    media_type: str = "application/json",
    length: str | None = None,
) -> bytes:
    """Write a request; `lines` are further headers, as they stand."""
    head = [f"{method} {target} HTTP/1.1", "Host: here", "Connection: close", *lines]
    if who:
        head.append(f"nuvla-authn-info: {who}")
    if media_type:
        head.append(f"Content-Type: {media_type}")
    if length is None and body and not any("Transfer-Encoding" in line for line in lines):
        length = str(len(body))
    if length is not None:
        head.append(f"Content-Length: {length}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _post(body: bytes, *lines: str, **more: Any) -> bytes:
    return request("POST", "/api/job", body, *lines, **more)


def _text(random: Random, length: int) -> str:
    return "".join(
        chr(random.choice((random.randrange(32, 127), random.randrange(160, 0xD7FF))))
        for _ in range(length)
    )


def _truncated_json(random: Random) -> bytes:
    whole = json.dumps(_VALID).encode()
    return _post(whole[: random.randrange(1, len(whole) - 1)])


def _not_json(random: Random) -> bytes:
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
    return _post(random.choice(texts).encode(), "X-Request-ID: " + "x" * random.randrange(200))


def _no_object(random: Random) -> bytes:
    return _post(random.choice((b"[]", b'"x"', b"1", b"null", b"true", b"[{}]")))


def _wrong_types(random: Random) -> bytes:
    attribute, values = random.choice(_WRONG)
    return _post(json.dumps({**_VALID, attribute: random.choice(values)}).encode())


def _wrong_bulk(random: Random) -> bytes:
    bad: Any = random.choice(([], {}, "x", [1], [{}], [_VALID, {"action": 5}], [[]] * 50))
    return _post(json.dumps({"jobs": bad}).encode(), "bulk: yes")


def _wrong_messages(random: Random) -> bytes:
    path = random.choice(("claim", "report", "token", "cleanup"))
    body: Any = random.choice(
        ({"claims": 5}, {"executor": []}, {"reports": [{}]}, {"fence": "x"}, [])
    )
    target = f"/api/engine/{path}"
    return request("POST", target, json.dumps(body).encode(), who=EXECUTOR)


def _wrong_login(random: Random) -> bytes:
    name = _text(random, random.randrange(1, 50))
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


def _deep(random: Random) -> bytes:
    depth = random.choice((101, 1000, 20_000))
    opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
    inner = opening * depth + "1" + closing * (depth if random.random() < 0.5 else 0)
    return _post(f'{{"action": "noop", "target-resource": {inner}}}'[:MAX_BODY].encode())


def _nul_bytes(random: Random) -> bytes:
    return random.choice(
        (
            _post(b'{"action": "no\x00op"}'),
            _post(b"\x00" * random.randrange(1, 1000)),
            request("GET", "/api/job/%00"),
            request("GET", "/api/job?filter=%00"),
            request("GET", "/api/job", b"", "X-Nul: a\x00b"),
            request("GET", "/api/\x00job"),
        )
    )


def _bad_encodings(random: Random) -> bytes:
    broken = bytes(random.randrange(128, 256) for _ in range(random.randrange(1, 40)))
    return random.choice(
        (
            _post(b'{"action": "' + broken + b'\xff"}'),
            _post(b'{"action": "\\ud800"}'),
            request("GET", "/api/job/" + broken.decode("latin-1")),
            request("GET", "/api/job/%ff%fe%80"),
            request("GET", "/api/job?filter=%ff%fe"),
        )
    )


def _huge_body(random: Random) -> bytes:
    size = MAX_BODY + random.randrange(1, 20 * MAX_BODY)
    return _post(b'{"action": "' + b"x" * size + b'"}')


def _huge_chunks(random: Random) -> bytes:
    chunk = b"x" * random.randrange(1000, 50_000)
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(chunk), chunk) for _ in range(2 * MAX_BODY // len(chunk))
    )
    return _post(pieces + b"0\r\n\r\n", "Transfer-Encoding: chunked")


def _announced(random: Random) -> bytes:
    return _post(b"{}", length=str(random.choice((MAX_BODY + 1, 10**9, 2**63 - 1))))


def _header_flood(random: Random) -> bytes:
    lines = random.choice(
        (
            [f"X-{n}: {'v' * 50}" for n in range(2000)],
            ["X-Long: " + "v" * 100_000],
            ["X" * 100_000 + ": v"],
            ["Cookie: " + "a=b; " * 30_000],
        )
    )
    return request("GET", "/api/job", b"", *lines)


def _long_target(random: Random) -> bytes:
    return request("GET", "/api/job?x=" + "y" * random.randrange(70_000, 200_000))


def _bad_chunks(random: Random) -> bytes:
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
    return _post(body, "Transfer-Encoding: chunked")


def _bad_length(random: Random) -> bytes:
    lengths = ("abc", "-1", "+2", "1e3", "0x2", "2 2", "2,2", " ", "9" * 40, "2.0", "\x0c2")
    return _post(b"{}", length=random.choice(lengths))


def _two_lengths(random: Random) -> bytes:
    return _post(
        b"{}",
        random.choice(("Content-Length: 3", "Content-Length: 2", "Transfer-Encoding: chunked")),
        length="2",
    )


def _twice(random: Random) -> bytes:
    line = random.choice(
        (
            "Host: there",
            "Content-Type: text/plain",
            "Idempotency-Key: b\r\nIdempotency-Key: c",
            "nuvla-authn-info: user/a group/nuvla-admin group/nuvla-admin",
            "Authorization: a\r\nAuthorization: b",
        )
    )
    return _post(json.dumps(_VALID).encode(), line)


def _bad_gzip(random: Random) -> bytes:
    packed = gzip.compress(json.dumps(_VALID).encode())
    body = random.choice(
        (
            random.randbytes(random.randrange(1, 500)),
            packed[: random.randrange(1, len(packed))],
            packed + b"x" * random.randrange(1, 100),
            packed + packed,
            gzip.compress(b'{"action": "' + b"x" * (50 * MAX_BODY)),
        )
    )
    return _post(body, "Content-Encoding: gzip")


def _unknown_encoding(random: Random) -> bytes:
    return _post(
        b"{}", f"Content-Encoding: {random.choice(('br', 'zstd', 'deflate', 'gzip, gzip'))}"
    )


def _bad_multipart(random: Random) -> bytes:
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


def _bad_percent(random: Random) -> bytes:
    escape = random.choice(("%", "%z", "%zz", "%f", "%%", "%u0041", "%c3%28"))
    return request("GET", random.choice((f"/api/job/{escape}", f"/api/job?filter={escape}")))


def _absurd_query(random: Random) -> bytes:
    query = random.choice(
        (
            "filter=" + "(" * random.randrange(1, 5000),
            "filter=" + "a=1%20and%20" * 500,
            "filter=a='" + "x" * 5000,
            "filter=" + "/".join(["a"] * 200) + "=1",
            "filter=",
            "filter=" + _quoted(_text(random, 40)),
            "orderby=" + ",".join(f"a{n}" for n in range(60)),
            "aggregation=" + ",".join(f"max:a{n}" for n in range(60)),
            "last=10001",
            "first=9999999&last=9999999999",
        )
    )
    return request("GET", f"/api/job?{query}")


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def _no_such_thing(random: Random) -> bytes:
    method = random.choice(("GET", "PUT", "DELETE", "POST", "PATCH"))
    target = random.choice(
        (
            "/api/nosuchtype",
            "/api/job/a/b/c/d",
            "/api/job/",
            "/api/job/x/nothing",
            "/api/job/../job",
            "/api/session-template/x/y",
            "/api/blob/x/content",
        )
    )
    return request(method, target)


def _bad_method(random: Random) -> bytes:
    method = random.choice(
        ("BREW", "get", "G ET", "PROPFIND", "CONNECT", "TRACE", "LOCK", "X" * 99)
    )
    return request(method, "/api/job")


def _bad_version(random: Random) -> bytes:
    version = random.choice(("HTTP/9.9", "HTTP/1.1x", "HTTP/", "http/1.1", "HTTP/1.", "ICY/1.0"))
    return request("GET", "/api/job").replace(b"HTTP/1.1", version.encode(), 1)


def _bad_target(random: Random) -> bytes:
    target = random.choice(("", "job", "http://", "http://[::1", "*", "/api/ job", "/a\tb", "\x7f"))
    return request("GET", target)


def _bad_header(random: Random) -> bytes:
    line = random.choice(
        (
            "no colon here",
            "X Y: z",
            "X : y",
            ": y",
            "X: a\rb",
            "X: a\nb c",
            "(): x",
            "X: \x01",
            " folded: x",
            "X\x00Y: z",
        )
    )
    return request("GET", "/api/job", b"", line)


def _no_host(random: Random) -> bytes:
    return request("GET", "/api/job").replace(b"Host: here\r\n", b"", 1)


def _bad_key(random: Random) -> bytes:
    key = random.choice(("", "x" * 256, "caf\xe9", "a\tb"))
    return _post(json.dumps(_VALID).encode(), f"Idempotency-Key: {key}")


def _other_media(random: Random) -> bytes:
    kinds = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "x", "\xff/\xfe")
    return _post(json.dumps(_VALID).encode(), media_type=random.choice(kinds))


def _bad_cookie(random: Random) -> bytes:
    name = "com.com.sixsq.nuvla.cookie"
    value = random.choice(("x", "a.b.c", "x" * 5000, "\x80\xff", '"', "=;=;=", _quoted("\x00")))
    return request("GET", "/api/job", b"", f"Cookie: {name}={value}", who="")


def _upgrade(random: Random) -> bytes:
    protocol = random.choice(("websocket", "h2c", "TLS/1.0", ""))
    lines = ("Upgrade: " + protocol, "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    asked = request("GET", "/api/job", b"", *lines, who="")
    return asked.replace(b"Connection: close", b"Connection: Upgrade, close", 1)


def _old_http(random: Random) -> bytes:
    return random.choice((b"GET /api/job\r\n\r\n", b"GET /api/job\r\n", b"GET\r\n\r\n"))


def _garbage(random: Random) -> bytes:
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


def _half(random: Random) -> bytes:
    whole = _post(json.dumps(_VALID).encode())
    return whole[: random.randrange(1, len(whole) - 1)]


ANSWERED: Final[Sequence[Callable[[Random], bytes]]] = (
    *(_truncated_json, _not_json, _no_object, _wrong_types, _wrong_bulk, _wrong_messages),
    *(_wrong_login, _deep, _nul_bytes, _bad_encodings, _announced, _bad_chunks, _bad_length),
    *(_two_lengths, _twice, _bad_gzip, _unknown_encoding, _bad_multipart, _bad_percent),
    *(_absurd_query, _no_such_thing, _bad_method, _bad_version, _bad_target, _bad_header),
    *(_no_host, _bad_key, _other_media, _bad_cookie, _upgrade),
)
UNANSWERED: Final[Sequence[Callable[[Random], bytes]]] = (
    *(_huge_body, _huge_chunks, _header_flood, _long_target, _old_http, _garbage, _half),
)
"""What may be cut off: it is still being sent when it is refused, or it is not HTTP."""


def draw(seed: int, number: int) -> Malformed:
    """Draw a request; the same numbers draw the same again."""
    random = Random(f"{seed}/{number}")
    kinds = (*ANSWERED, *UNANSWERED)
    kind = kinds[number % len(kinds)]
    return Malformed(kind.__name__.lstrip("_"), kind(random), speaks=kind in ANSWERED)
