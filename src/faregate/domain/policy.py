"""What a user starts with, what a request costs, and how long a decision may take."""

from dataclasses import dataclass

from faregate.domain.transaction import check_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPolicy:
    """The rules by which users are charged."""

    #: What a new user gets, once, as a row of its own. 0 means no row.
    starting_credits: int = 3
    #: What one request costs.
    request_cost: int = 1

    def __post_init__(self) -> None:
        check_whole("starting_credits", self.starting_credits, 0)
        check_whole("request_cost", self.request_cost, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """How a gate behaves, beside its policy."""

    #: Within this time a charge is decided, or answered as unavailable and never charged.
    decision_timeout_ms: int = 250
    #: Whether a user that Postgres does not know is created at first sight.
    provision_users: bool = False
    #: How long `aclose` waits for voids and refunds that are still being tried.
    close_timeout_s: float = 5.0
