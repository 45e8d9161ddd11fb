"""What every message is: immutable, bounded, and of text that can be stored."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

BATCH_LIMIT = 1000
"""Most items that one request may carry."""

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


Text = Annotated[str, AfterValidator(_storable)]
"""Text from anywhere: what JSON or a database cannot hold (NUL, lone surrogates) is replaced."""


class Message(BaseModel):
    """A message is immutable, and has no key but those it declares."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
