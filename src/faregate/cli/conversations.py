"""Reads conversations with a language model: what each was given, and what it generated.

The form is that of the Azure LLM inference traces of 2023 (https://github.com/Azure/AzurePublicDataset).
"""

import re
from dataclasses import dataclass

from faregate.domain.transaction import CREDITS_MAX

#: The first line of a file.
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"

_ROW = re.compile(r"[^,]*,(?P<context>\d{1,10}),(?P<generated>\d{1,10})", re.ASCII)
_ESTIMATE_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A request whose cost is known only at its end. A token costs a credit."""

    #: Tokens that it was given.
    context: int
    #: Tokens that came of it.
    generated: int

    @property
    def estimate(self) -> int:
        """What is held for it, in credits: as much as if it generated what it was given."""
        return _ESTIMATE_FACTOR * self.context

    @property
    def actual(self) -> int:
        """What it really costs, in credits."""
        return self.context + self.generated


def parse_row(line: str) -> Conversation | None:
    """Read one line after the header; None if it tells no costs that can be held and settled."""
    found = _ROW.fullmatch(line)
    if found is None:
        return None
    read = Conversation(context=int(found["context"]), generated=int(found["generated"]))
    is_usable = 1 <= read.estimate <= CREDITS_MAX and read.actual <= CREDITS_MAX
    return read if is_usable else None
