"""The base class of messages, which are immutable and bounded, with text that can be stored."""

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
"""Text from any source; characters that JSON or a database cannot store (NUL, lone surrogates)
are replaced by U+FFFD."""


class Message(BaseModel):
    """Base class of messages: immutable; undeclared keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
