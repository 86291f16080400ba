"""The operator: a person who changes something by hand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operator:
    """Who changes something by hand, and why. Each such change keeps both."""

    actor: str
    reason: str
