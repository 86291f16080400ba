"""What a file comes to when it is replayed: a plan for each format that `faregate replay` takes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from faregate.cli.access_log import parse_line
from faregate.cli.conversations import HEADER, Conversation, parse_row
from faregate.cli.lines import parsed_lines
from faregate.cli.load import PlannedRequest
from faregate.cli.replay_api import answer_path, converse_path
from faregate.domain.errors import InvalidArgumentError

#: Starting credits, where nobody says otherwise.
CREDITS_OF_ACCESS_LOG = 3
CREDITS_OF_CONVERSATIONS = 1_000_000

#: Conversations name no users, so these take turns.
USERS_OF_CONVERSATIONS = 200
#: How long the owner of a hold works who is to be killed: longer than anybody waits for it.
KILLED_WORK_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sent, to whom, and what for."""

    #: Begins anew at each call, and reads the file as it goes.
    requests: Callable[[], Iterator[PlannedRequest]]
    total: int
    #: How many of the requests have owners that are killed.
    killed: int
    #: Lines of the file that tell of no request.
    unusable_lines: int
    #: Of each user, where the user of the command does not say.
    starting_credits: int


def plan_of(file: Path, *, kill_percent: int, seed: int) -> Plan:
    """Plan what a file tells, by its first line: conversations, or else an access log.

    Args:
        file: The file.
        kill_percent: How many of a hundred owners of conversations are killed.
        seed: Chooses them: the same ones for the same number and the same file.

    Raises:
        InvalidArgumentError: The file cannot be read or tells of no request, or it has no owners.
    """
    if next(parsed_lines(file, str), None) == HEADER:
        return _plan_of_conversations(file, kill_percent, seed)
    if kill_percent:
        raise InvalidArgumentError(f"{file} tells of no holds, so it has no owners to kill")
    return _plan_of_access_log(file)


def _plan_of_access_log(file: Path) -> Plan:
    """Every client address is a user, whose requests go one after the other."""
    total, unusable_lines = _counted(parsed_lines(file, parse_line))
    if not total:
        raise InvalidArgumentError(
            f"{file} holds no line of an access log, and does not begin with {HEADER}"
        )

    def requests() -> Iterator[PlannedRequest]:
        for logged in filter(None, parsed_lines(file, parse_line)):
            client = logged.address
            yield PlannedRequest(client=client, path=answer_path(logged.status), queue=client)

    return Plan(
        requests=requests,
        total=total,
        killed=0,
        unusable_lines=unusable_lines,
        starting_credits=CREDITS_OF_ACCESS_LOG,
    )


def _plan_of_conversations(file: Path, kill_percent: int, seed: int) -> Plan:
    """Users take turns, row by row; what is held and what is settled stands in the request."""

    def rows() -> Iterator[Conversation | None]:
        return islice(parsed_lines(file, parse_row), 1, None)

    total, unusable_lines = _counted(rows())
    if not total:
        raise InvalidArgumentError(f"{file} holds no conversation")
    random = Random(seed)  # noqa: S311 -- chosen so that a run can be repeated
    killed = frozenset(random.sample(range(total), total * kill_percent // 100))

    def requests() -> Iterator[PlannedRequest]:
        for number, row in enumerate(filter(None, rows())):
            is_killed = number in killed
            work_s = KILLED_WORK_S if is_killed else 0
            yield PlannedRequest(
                client=f"user-{number % USERS_OF_CONVERSATIONS}",
                path=converse_path(row.estimate, row.actual, work_s),
                queue=f"row-{number}",
                cost=row.actual,
                is_killed=is_killed,
            )

    return Plan(
        requests=requests,
        total=total,
        killed=len(killed),
        unusable_lines=unusable_lines,
        starting_credits=CREDITS_OF_CONVERSATIONS,
    )


def _counted(lines: Iterable[object]) -> tuple[int, int]:
    """Return how many lines are usable, and how many are not."""
    counts = Counter(line is not None for line in lines)
    return counts[True], counts[False]
