"""The OpenAPI document: what FastAPI knows of its routes, and what the CIMI types are like.

It has to be true: a test asks every operation of it, as several callers, and holds each
answer against what is written here. So whatever answers something new says so here.
"""
