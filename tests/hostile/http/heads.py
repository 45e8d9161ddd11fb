"""Requests whose heads are malformed: targets, headers, methods, versions."""

from __future__ import annotations

import json
from random import Random

from tests.hostile.http.requests import MAX_BODY, VALID, post, request, text


def announced(random: Random) -> bytes:
    return post(b"{}", length=str(random.choice((MAX_BODY + 1, 10**9, 2**63 - 1))))


def header_flood(random: Random) -> bytes:
    lines = random.choice(
        (
            [f"X-{n}: {'v' * 50}" for n in range(2000)],
            ["X-Long: " + "v" * 100_000],
            ["X" * 100_000 + ": v"],
            ["Cookie: " + "a=b; " * 30_000],
        )
    )
    return request("GET", "/api/job", b"", *lines)


def long_target(random: Random) -> bytes:
    return request("GET", "/api/job?x=" + "y" * random.randrange(70_000, 200_000))


def bad_length(random: Random) -> bytes:
    lengths = ("abc", "-1", "+2", "1e3", "0x2", "2 2", "2,2", " ", "9" * 40, "2.0", "\x0c2")
    return post(b"{}", length=random.choice(lengths))


def two_lengths(random: Random) -> bytes:
    return post(
        b"{}",
        random.choice(("Content-Length: 3", "Content-Length: 2", "Transfer-Encoding: chunked")),
        length="2",
    )


def twice(random: Random) -> bytes:
    line = random.choice(
        (
            "Host: there",
            "Content-Type: text/plain",
            "Idempotency-Key: b\r\nIdempotency-Key: c",
            "nuvla-authn-info: user/a group/nuvla-admin group/nuvla-admin",
            "Authorization: a\r\nAuthorization: b",
        )
    )
    return post(json.dumps(VALID).encode(), line)


def bad_percent(random: Random) -> bytes:
    escape = random.choice(("%", "%z", "%zz", "%f", "%%", "%u0041", "%c3%28"))
    return request("GET", random.choice((f"/api/job/{escape}", f"/api/job?filter={escape}")))


def absurd_query(random: Random) -> bytes:
    query = random.choice(
        (
            "filter=" + "(" * random.randrange(1, 5000),
            "filter=" + "a=1%20and%20" * 500,
            "filter=a='" + "x" * 5000,
            "filter=" + "/".join(["a"] * 200) + "=1",
            "filter=",
            "filter=" + quoted(text(random, 40)),
            "orderby=" + ",".join(f"a{n}" for n in range(60)),
            "aggregation=" + ",".join(f"max:a{n}" for n in range(60)),
            "last=10001",
            "first=9999999&last=9999999999",
        )
    )
    return request("GET", f"/api/job?{query}")


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def no_such_thing(random: Random) -> bytes:
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


def bad_method(random: Random) -> bytes:
    method = random.choice(
        ("BREW", "get", "G ET", "PROPFIND", "CONNECT", "TRACE", "LOCK", "X" * 99)
    )
    return request(method, "/api/job")


def bad_version(random: Random) -> bytes:
    version = random.choice(("HTTP/9.9", "HTTP/1.1x", "HTTP/", "http/1.1", "HTTP/1.", "ICY/1.0"))
    return request("GET", "/api/job").replace(b"HTTP/1.1", version.encode(), 1)


def bad_target(random: Random) -> bytes:
    target = random.choice(("", "job", "http://", "http://[::1", "*", "/api/ job", "/a\tb", "\x7f"))
    return request("GET", target)


def bad_header(random: Random) -> bytes:
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


def no_host(random: Random) -> bytes:
    return request("GET", "/api/job").replace(b"Host: here\r\n", b"", 1)


def bad_key(random: Random) -> bytes:
    key = random.choice(("", "x" * 256, "caf\xe9", "a\tb"))
    return post(json.dumps(VALID).encode(), f"Idempotency-Key: {key}")


def other_media(random: Random) -> bytes:
    kinds = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "x", "\xff/\xfe")
    return post(json.dumps(VALID).encode(), media_type=random.choice(kinds))


def bad_cookie(random: Random) -> bytes:
    name = "com.com.sixsq.nuvla.cookie"
    value = random.choice(("x", "a.b.c", "x" * 5000, "\x80\xff", '"', "=;=;=", quoted("\x00")))
    return request("GET", "/api/job", b"", f"Cookie: {name}={value}", who="")


def upgrade(random: Random) -> bytes:
    protocol = random.choice(("websocket", "h2c", "TLS/1.0", ""))
    lines = ("Upgrade: " + protocol, "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    asked = request("GET", "/api/job", b"", *lines, who="")
    return asked.replace(b"Connection: close", b"Connection: Upgrade, close", 1)


def old_http(random: Random) -> bytes:
    return random.choice((b"GET /api/job\r\n\r\n", b"GET /api/job\r\n", b"GET\r\n\r\n"))
