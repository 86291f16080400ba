"""Draws earlier steps of the machine."""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition

from spec.steps import Step

#: Of how many steps one is asked for again, given back or ended.
_RECENT_MAX = 8


def _recent(name: str) -> st.SearchStrategy[Step]:
    """Draw one of the latest steps of a list of the machine."""
    return st.runner().flatmap(
        lambda machine: st.sampled_from(getattr(machine, name)[-_RECENT_MAX:])
    )


def about(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Allow a rule only where there is something that it is about."""
    return precondition(lambda machine: bool(getattr(machine, name)))


_LISTS = ("asked", "deducts", "charges", "holds", "keyed", "named")
ASKED, DEDUCTS, CHARGES, HOLDS, KEYED, NAMED = map(_recent, _LISTS)
