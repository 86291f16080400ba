"""`faregate repair` that ends by SIGKILL right before or right after a part of its first step.

python -m dying_repair_process PART before|after WORDS...
"""

import os
import signal
import sys
from typing import Any

from faregate.adapters.postgres import repairs
from faregate.adapters.postgres.restoration import SchemaRestorer
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.cli import main
from faregate.cli.commands import repair

#: Where the parts stand, by their names.
PARTS: dict[str, tuple[Any, str]] = {
    "the event": (repairs.PostgresRepairs, "begin"),
    "the rows": (repairs, "_change"),
    "the commit": (repairs.PostgresRepairs, "act"),
    "the script": (RedisAccounts, "align"),
    "the note": (repairs.PostgresRepairs, "end"),
    "the adjustment": (repair, "_adjust"),
    "the schema": (SchemaRestorer, "restore"),
    "the rebuild": (repair, "rebuild_empty"),
}


def die_at(part: str, when: str) -> None:
    """Let this process end there."""
    owner, name = PARTS[part]
    real = getattr(owner, name)

    def dying(*arguments: Any, **named: Any) -> None:
        if when == "after":
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


if __name__ == "__main__":
    die_at(*sys.argv[1:3])
    sys.argv[1:3] = []
    main()
