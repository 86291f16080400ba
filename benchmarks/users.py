"""Users of a benchmark: always the same ones for a name, so that no process has to be told them."""

import random
from uuid import UUID


def user_ids(name: str, count: int) -> list[UUID]:
    """Return users; those of a larger count begin with those of a smaller one."""
    draw = random.Random(name)  # noqa: S311 - ids that repeat are the point.
    return [UUID(int=draw.getrandbits(128), version=4) for _ in range(count)]
