"""HTTP below the routes: the connection, and the middleware that every request passes.

`protocol` and `cork` are what uvicorn reads and writes with. `request_ids`, `rates`, `nul`
and `body` are ASGI middleware, in the order in which a request meets them; `uploads` reads
multipart forms. Nothing here knows a resource type.
"""
