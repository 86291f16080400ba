"""What makes orders, in a process that halts at a named point for as long as a test wants.

python -m orders_process FOLDER
"""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from faregate.bootstrap import open_credits, open_installer, open_orders
from faregate.config import Settings, read_settings
from faregate_worker import ordering
from faregate_worker.runtime import Stop
from halts import Halts

#: Each is reached after a call that is named, or before.
POINTS = (
    "before take",
    "after take",
    "after open_users",
    "before add",
    "after add",
    "after install",
    "before refuse",
    "after refuse",
)


def watched(call: Callable[..., Any], name: str, halts: Halts) -> Callable[..., Any]:
    """Halt before and after a call."""

    def halting(*arguments: Any) -> Any:
        halts.reach(f"before {name}")
        answer = call(*arguments)
        # An empty hand is no point at which anything could be lost.
        if name != "take" or answer:
            halts.reach(f"after {name}")
        return answer

    return halting


def main() -> None:
    halts = Halts(Path(sys.argv[1]))
    in_ordering: Any = ordering

    def watching(open_: Callable[[Settings], Any], *names: str) -> Callable[[Settings], Any]:
        def opened(settings: Settings) -> Any:
            made = open_(settings).thing
            for name in names:
                setattr(made, name, watched(getattr(made, name), name, halts))
            return closing(made)

        return opened

    in_ordering.open_orders = watching(open_orders, "take", "open_users", "refuse")
    in_ordering.open_credits = watching(open_credits, "add")
    in_ordering.open_installer = watching(open_installer, "install")
    ordering.run_orders(read_settings(), Stop())


if __name__ == "__main__":
    main()
