"""Reading many nodes with one request: ZooKeeper's multiRead (3.6 and later), which kazoo lacks.

In Python a request costs as much as reading all nodes of a batch, so one request for each
node would be most of the cost of a claim. The format is `MultiOperationRecord` of
`org.apache.zookeeper`, with read operations. Tested against ZooKeeper 3.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import EXCEPTIONS, NoNodeError
from kazoo.protocol.serialization import GetData, MultiHeader, int_struct, stat_struct
from kazoo.protocol.states import ZnodeStat

from job_engine.queue.transaction import answered

_END: Final = bytes(MultiHeader(-1, True, -1).serialize())
_READ: Final = bytes(MultiHeader(GetData.type, False, -1).serialize())
_ERROR: Final = -1
"""Type of a result that is an error code."""


class Node(NamedTuple):
    """A node as it was read."""

    data: bytes
    stat: ZnodeStat


@dataclass(frozen=True)
class _MultiRead:
    """The request, in the form that kazoo's client sends."""

    paths: tuple[str, ...]
    type: ClassVar[int] = 22

    def serialize(self) -> bytes:
        """Write the request."""
        reads = (_READ + bytes(GetData(path, None).serialize()) for path in self.paths)
        return b"".join(reads) + _END

    @classmethod
    def deserialize(cls, data: bytes, offset: int) -> list[Node | None]:
        """Read the answer; None for a node that is not there."""
        found: list[Node | None] = []
        header, offset = MultiHeader.deserialize(data, offset)
        while not header.done:
            if header.type == _ERROR:
                error = EXCEPTIONS[int_struct.unpack_from(data, offset)[0]]
                offset += int_struct.size
                if error is not NoNodeError:
                    raise error
                found.append(None)
            else:
                content, stat = GetData.deserialize(data, offset)
                offset += int_struct.size + len(content or b"") + stat_struct.size
                found.append(Node(content or b"", stat))
            header, offset = MultiHeader.deserialize(data, offset)
        return found


class Reading:
    """A read that is under way."""

    def __init__(self, client: KazooClient, paths: Sequence[str]) -> None:
        """Send the request, after all earlier ones of this session.

        `paths` are absolute, and in normal form.
        """
        self._result: Any = client.handler.async_result()
        prefixed = tuple(client.chroot + path for path in paths)
        client._call(_MultiRead(prefixed), self._result)

    def nodes(self) -> list[Node | None]:
        """Wait for the nodes, in the order of the paths; raises `QueueError`."""
        with answered():
            found: list[Node | None] = self._result.get()
        return found
