"""The fence: what orders the claims of one job."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

_Signed64 = Annotated[int, Field(ge=0, lt=2**63)]


class Fence(NamedTuple):
    """The pair that a claim is known by; compared field by field, in this order.

    ZooKeeper issues `czxid` (the transaction id that created the claim node), and
    a later claim has a larger one, but only while ZooKeeper keeps its data. The
    incarnation is a counter kept in the store and drawn anew when ZooKeeper comes
    back empty, so that claims of a wiped ZooKeeper sort before those of the new.
    """

    incarnation: _Signed64
    czxid: _Signed64
