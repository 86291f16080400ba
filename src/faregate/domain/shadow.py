"""Shadow mode: a policy that is observed, and neither refuses, charges nor records."""

from dataclasses import dataclass

from faregate.domain.request import Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy that is only observed would have had to decide."""

    charge: Charge
    #: The name of the policy. Each has shadow balances of its own.
    policy: str
    #: What the shadow balance of a user begins with.
    starting_credits: int
