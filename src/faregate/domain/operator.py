"""The operator: a person who changes something by hand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator and the reason of a change. Each change stores both."""

    actor: str
    reason: str
