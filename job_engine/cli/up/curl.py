"""A configuration file for curl, with a session that may create jobs.

The session may create jobs and read its own jobs, and nothing else. It is in a file, because
every user of the machine can list the arguments of processes.
"""

from __future__ import annotations

import json
from http.cookiejar import Cookie
from typing import Final

from nuvla.api.api import NuvlaError

from job_engine.api import identity
from job_engine.cli.local_engine import LocalEngine, save_private, save_secret
from job_engine.cli.up.admin import ADMIN, API_KEY_TEMPLATE
from job_engine.client import Api
from job_engine.errors import ApiError

SUBMITTER: Final = "submitter"
_TEXT: Final = """\
# For `curl --config`: a session of {name} that may create jobs and read them.
# Good for a week; renewed whenever the engine starts.
cookie = "{cookie}"
"""


def let_curl_in(engine: LocalEngine, api_url: str) -> None:
    """Log in for curl, with a key that the first start makes. Raises `ApiError`."""
    if not engine.credentials_file(SUBMITTER).exists():
        save_secret(engine.credentials_file(SUBMITTER), _make_key(engine, api_url))
    api = _logged_in(engine, SUBMITTER, api_url)
    try:
        cookies: list[Cookie] = list(api.session.cookies)
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)
    finally:
        api.close()
    save_private(engine.curl_file, _TEXT.format(name=SUBMITTER, cookie=cookie))


def _make_key(engine: LocalEngine, api_url: str) -> dict[str, str]:
    api = _logged_in(engine, ADMIN, api_url)
    template = {"href": API_KEY_TEMPLATE, "roles": [identity.SUBMITTER]}
    try:
        made = api.add("credential", {"name": "curl on this machine", "template": template})
    except NuvlaError as error:
        raise ApiError(f"The API gave curl no key: {error.reason}") from error
    finally:
        api.close()
    return {"key": made.data["resource-id"], "secret": made.data["secret-key"]}


def _logged_in(engine: LocalEngine, who: str, api_url: str) -> Api:
    key = json.loads(engine.credentials_file(who).read_text())
    api = Api(api_url)
    reply = api.login_apikey(key["key"], key["secret"])
    if reply is None or reply.status_code != 201:
        api.close()
        raise ApiError(f"The API refuses the key in {engine.credentials_file(who)}.")
    return api
