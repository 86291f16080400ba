"""The load profiles of the demo: users, their requests, and the expected outcome."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from faregate.cli.load import PlannedRequest
from faregate.cli.replay_api import answer_path, client_user

#: The credits of every user at the start.
STARTING_CREDITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Users with the same behaviour: send requests, perhaps buy credits, send more."""

    name: str
    users: int
    #: Requests of each user.
    requests: int
    #: Credits that each user buys after its requests.
    bought: int = 0
    #: Requests of each user after the purchase.
    requests_after: int = 0
    #: The status of the app.
    status: HTTPStatus = HTTPStatus.OK
    #: Whether a user sends all requests at once.
    is_burst: bool = False
    #: Whether the users have signed up.
    is_known: bool = True

    @property
    def clients(self) -> Sequence[str]:
        """The addresses of the users."""
        return [f"{self.name.replace(' ', '-')}-{number}" for number in range(self.users)]

    @property
    def user_ids(self) -> Sequence[UUID]:
        """The users."""
        return [client_user(client) for client in self.clients]

    @property
    def is_refunded(self) -> bool:
        """Whether every request fails and is refunded."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    def plan(self, requests: int) -> Iterator[PlannedRequest]:
        """Plan a number of requests of each user, in turns."""
        for number in range(requests):
            for client in self.clients:
                queue = f"{client} {number}" if self.is_burst else client
                yield PlannedRequest(client=client, path=answer_path(self.status), queue=queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a profile, actual or expected."""

    requests: int
    allowed: int
    refused: int
    refunded: int
    #: Rows of all types, starting credits included.
    rows: int
    #: The remaining credits of all users of the profile.
    credits: int


def expected_outcome(profile: Profile) -> Outcome:
    """Compute the expected outcome of a profile."""
    requests = profile.requests + profile.requests_after
    balance, allowed = (STARTING_CREDITS, 0) if profile.is_known else (0, 0)
    for asked, then_bought in ((profile.requests, profile.bought), (profile.requests_after, 0)):
        # One credit is enough for any number of refunded requests.
        charged = asked if profile.is_refunded and balance else min(asked, balance)
        allowed += charged
        balance += then_bought - (0 if profile.is_refunded else charged)
    refunded = allowed if profile.is_refunded else 0
    start_and_bought = int(profile.is_known) + int(profile.bought > 0)
    return Outcome(
        requests=profile.users * requests,
        allowed=profile.users * allowed,
        refused=profile.users * (requests - allowed),
        refunded=profile.users * refunded,
        rows=profile.users * (start_and_bought + allowed + refunded),
        credits=profile.users * balance,
    )


PROFILES = (
    Profile(name="newcomers", users=500, requests=2),
    Profile(name="regulars", users=200, requests=5),
    Profile(name="heavy user", users=1, requests=400),
    Profile(name="buyers of 20", users=10, requests=5, bought=20, requests_after=30),
    Profile(
        name="failed by app",
        users=40,
        requests=5,
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
    ),
    Profile(
        name="burst on 100",
        users=1,
        requests=0,
        bought=97,
        requests_after=1_000,
        is_burst=True,
    ),
    Profile(name="unknown users", users=20, requests=1, is_known=False),
)
