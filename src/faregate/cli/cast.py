"""Who plays in the demo: kinds of users, what they do, and what must come of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from faregate.cli.load import PlannedRequest
from faregate.cli.replay_api import answer_path, client_user

#: What every user of the demo starts with.
STARTING_CREDITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Users who all do the same: send requests, perhaps buy credits, send more."""

    name: str
    users: int
    #: By each user.
    requests: int
    #: Bought by each user after its requests; 0 for none.
    bought: int = 0
    #: By each user, after it has bought credits.
    requests_after: int = 0
    #: What the app answers.
    status: HTTPStatus = HTTPStatus.OK
    #: Whether a user sends everything at once, rather than one request after the other.
    is_burst: bool = False
    #: Whether the users have signed up.
    is_known: bool = True

    @property
    def clients(self) -> Sequence[str]:
        """The addresses that stand for the users."""
        return [f"{self.name.replace(' ', '-')}-{number}" for number in range(self.users)]

    @property
    def user_ids(self) -> Sequence[UUID]:
        """The users."""
        return [client_user(client) for client in self.clients]

    @property
    def is_refunded(self) -> bool:
        """Whether the app fails every request, so that it is given back."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    def plan(self, requests: int) -> Iterator[PlannedRequest]:
        """Plan some requests of each user, in turns."""
        for number in range(requests):
            for client in self.clients:
                lane = f"{client} {number}" if self.is_burst else client
                yield PlannedRequest(client=client, path=answer_path(self.status), lane=lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came, or must come, of a kind."""

    requests: int
    allowed: int
    refused: int
    refunded: int
    #: Of all types, starting credits included.
    rows: int
    #: What is left to all users of the kind together.
    credits: int


def expected_outcome(kind: Kind) -> Outcome:
    """Work out what must come of a kind, by plain arithmetic."""
    requests = kind.requests + kind.requests_after
    balance, allowed = (STARTING_CREDITS, 0) if kind.is_known else (0, 0)
    for asked, then_bought in ((kind.requests, kind.bought), (kind.requests_after, 0)):
        # Whoever gets everything back can go on for ever, with one credit.
        taken = asked if kind.is_refunded and balance else min(asked, balance)
        allowed += taken
        balance += then_bought - (0 if kind.is_refunded else taken)
    refunded = allowed if kind.is_refunded else 0
    start_and_bought = int(kind.is_known) + int(kind.bought > 0)
    return Outcome(
        requests=kind.users * requests,
        allowed=kind.users * allowed,
        refused=kind.users * (requests - allowed),
        refunded=kind.users * refunded,
        rows=kind.users * (start_and_bought + allowed + refunded),
        credits=kind.users * balance,
    )


CAST = (
    Kind(name="newcomers", users=500, requests=2),
    Kind(name="regulars", users=200, requests=5),
    Kind(name="heavy user", users=1, requests=400),
    Kind(name="buyers of 20", users=10, requests=5, bought=20, requests_after=30),
    Kind(
        name="let down",
        users=40,
        requests=5,
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
    ),
    Kind(
        name="burst on 100",
        users=1,
        requests=0,
        bought=97,
        requests_after=1_000,
        is_burst=True,
    ),
    Kind(name="strangers", users=20, requests=1, is_known=False),
)
