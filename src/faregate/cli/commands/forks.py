"""`faregate forks`: where Redis continued without its newest records."""

from typing import Annotated

import typer

from faregate.bootstrap import open_reports
from faregate.cli.conventions import EXIT_NOT_EXACT, Json, members, print_result
from faregate.config import read_settings
from faregate.domain.fork import ForkReport

COUNT_MAX = 1_000


def forks(
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="The maximum number.")] = 20,
    as_json: Json = False,
) -> None:
    """List where Redis lost its newest records. Exit 1 if a live balance is not aligned.

    Example: faregate forks --json
    """
    with open_reports(read_settings()) as reports:
        found, recent = reports.forks(count), reports.recent_forks()
    if as_json:
        print_result([members(fork) for fork in found], as_json=True)
    elif found:
        print_result(list(map(_row, found)), as_json=False)
    else:
        print("no forks")
    if recent.users_waiting:
        raise typer.Exit(EXIT_NOT_EXACT)


def _row(fork: ForkReport) -> dict[str, object]:
    return {
        "fork": fork.id,
        "shard": fork.shard,
        "noticed at": fork.noticed_at,
        "kept records": fork.kept,
        "lost answers": f"{fork.lost} or more" if fork.is_at_least else fork.lost,
        "users": fork.users,
        "aligned": fork.aligned,
    }
