"""The OpenAPI document: FastAPI's routes, and the CIMI resource types.

A test calls every operation as several callers and compares each response with the document,
so new statuses and attributes have to be added here.
"""
