"""The fence, which orders the claims of a job."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

_Signed64 = Annotated[int, Field(ge=0, lt=2**63)]


class Fence(NamedTuple):
    """The fencing token of a claim; a newer claim has a greater one.

    `czxid` is the ZooKeeper transaction that created the claim node. It grows only as long as
    ZooKeeper keeps its data. So `incarnation`, a counter in the store, is compared first: a
    new one is drawn when ZooKeeper starts empty.
    """

    incarnation: _Signed64
    czxid: _Signed64
