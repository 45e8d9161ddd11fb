"""The API: CIMI resources over HTTP, the services' messages, and the event stream.

`app.create_app(settings)` builds it, `server.serve(settings)` runs it. `types/` has one
small file a resource type, registered in `registry.py`; `routes/` has what HTTP looks
like. What must hold: the shapes, codes and messages of specs/cimi-api.md; never a 401;
every right checked here or in the SQL of a query, since students are clients too.
"""
