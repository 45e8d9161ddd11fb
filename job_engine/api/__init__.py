"""The API: CIMI resources over HTTP, the services' messages, and the event stream.

`app.create_app(settings)` builds it, `server.serve(settings)` runs it. A request goes
through the middleware of `http/`, is matched by `routes/` and becomes a `Call`; a resource
type of `types/` answers it (`registry.py` finds them), and `access.py` decides what the
caller may do and see.

| subject | where |
|---|---|
| connections, middleware | `http/` |
| paths, status codes, event streams | `routes/`, `shortcut` |
| what each resource type does | `types/` |
| passwords, keys, sessions | `auth/`; who is calling: `identity` |
| what new jobs are checked for | `jobs/` |
| threads and limits on who waits | `concurrency/` |
| the OpenAPI document | `openapi/` |
| everything requests share | `services` |

What must hold: the shapes, codes and messages of docs/cimi.md; never a 401; every right
checked here or in the SQL of a query, since students are clients too.
"""
