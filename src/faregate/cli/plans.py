"""The plan of a replay, for each format that `faregate replay` reads."""

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

#: The default starting credits.
CREDITS_OF_ACCESS_LOG = 3
CREDITS_OF_CONVERSATIONS = 1_000_000

#: The number of users of conversations, which name none, in turns.
USERS_OF_CONVERSATIONS = 200
#: How long an owner works that is to be killed, in seconds: longer than any client waits.
KILLED_WORK_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The requests of a replay."""

    #: Returns a new iterator over the requests, which reads the file lazily.
    requests: Callable[[], Iterator[PlannedRequest]]
    total: int
    #: The number of requests whose owners are killed.
    killed: int
    #: Lines of the file without a request.
    unusable_lines: int
    #: The default starting credits of each user.
    starting_credits: int


def plan_of(file: Path, *, kill_percent: int, seed: int) -> Plan:
    """Plan the replay of a file: conversations, by its first line, or else an access log.

    Args:
        file: The file.
        kill_percent: The percentage of owners of conversations that are killed.
        seed: The seed of their random choice.

    Raises:
        InvalidArgumentError: The file cannot be read, has no request, or has no owners to kill.
    """
    if next(parsed_lines(file, str), None) == HEADER:
        return _plan_of_conversations(file, kill_percent, seed)
    if kill_percent:
        raise InvalidArgumentError(f"{file} is an access log, so it has no owners to kill")
    return _plan_of_access_log(file)


def _plan_of_access_log(file: Path) -> Plan:
    """Plan an access log: every client address is a user with its own queue."""
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
    """Plan conversations: users take turns, row by row; each request has its estimate and cost."""

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
