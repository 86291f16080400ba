"""What is searched long, or by much data: `make soak`, and not `make test`."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

#: How many sequences `make soak` asks for; none of `make test`.
SOAK = int(os.environ.get("FAREGATE_TEST_SOAK", "0"))
#: How many it asks for unless it is told otherwise: all other sizes are in proportion.
SOAK_USUAL = 2_000

#: The fixture `record_property`: what it is given as "soak" is shown when all is over.
Record = Callable[[str, object], None]

soaked = pytest.mark.skipif(not SOAK, reason="takes a minute, and is part of make soak")


def scaled(soaked: int, quick: int) -> int:
    """Return a size: `quick` of `make test`, and else `soaked` in proportion to SEQUENCES."""
    return max(quick, soaked * SOAK // SOAK_USUAL) if SOAK else quick


def counted(counts: Mapping[Any, int]) -> str:
    """Say how often each of some things came, in one line."""
    names = ((getattr(one, "value", one), count) for one, count in sorted(counts.items(), key=str))
    return ", ".join(f"{name} {count}" for name, count in names)


def tell(text: str) -> None:
    """Say how far a long search is."""
    if SOAK:
        sys.stderr.write(f"\n{text}")
        sys.stderr.flush()
