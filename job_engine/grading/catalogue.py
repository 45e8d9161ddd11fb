"""Resolving names of assignments through the API."""

from __future__ import annotations

from job_engine.client import Api


class ApiCatalogue:
    """Finds the newest bundle of a name among the API's `assignment` resources."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def digest_of(self, name: str) -> str | None:
        """Return the digest of the newest bundle of that name; None: there is none."""
        # Newest first: adding a bundle under a known name is how an assignment is changed.
        found = self._api.search(
            "assignment", filter=f"name='{name}'", orderby="version:desc,created:desc", last=1
        )
        for resource in found.resources:
            return str(resource.data.get("digest", ""))
        return None

    def publishes(self, digest: str) -> bool:
        """Return whether an assignment of this digest was published."""
        found = self._api.search("assignment", filter=f"digest='{digest}'", last=0)
        return bool(found.count)
