"""What a user starts with and what a request costs."""

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
