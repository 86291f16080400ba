"""Reads conversations with a language model: the numbers of tokens in and out.

The format is that of the Azure LLM inference traces of 2023
(https://github.com/Azure/AzurePublicDataset).
"""

import re
from dataclasses import dataclass

from faregate.domain.transaction import CREDITS_MAX

#: The header of a file.
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"

_ROW = re.compile(r"[^,]*,(?P<context>\d{1,10}),(?P<generated>\d{1,10})", re.ASCII)
_ESTIMATE_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A request whose cost is known only at its end. A token costs a credit."""

    #: Tokens of the prompt.
    context: int
    #: Generated tokens.
    generated: int

    @property
    def estimate(self) -> int:
        """The estimate, in credits: twice the prompt."""
        return _ESTIMATE_FACTOR * self.context

    @property
    def actual(self) -> int:
        """The actual cost, in credits."""
        return self.context + self.generated


def parse_row(line: str) -> Conversation | None:
    """Read one line after the header; None if its costs are not valid."""
    found = _ROW.fullmatch(line)
    if found is None:
        return None
    read = Conversation(context=int(found["context"]), generated=int(found["generated"]))
    is_usable = 1 <= read.estimate <= CREDITS_MAX and read.actual <= CREDITS_MAX
    return read if is_usable else None
