"""What the ledger must answer, as one table that runs on the memory adapter and on Redis alike.

A scenario is a list of steps of users who start with five credits, of sequence 1.
"""

from play.steps import Step
from scenarios.allowances import ALLOWANCES
from scenarios.charges import CHARGES
from scenarios.credits import CREDITS
from scenarios.hold_ends import HOLD_ENDS
from scenarios.holds import HOLDS
from scenarios.keys import KEYS
from scenarios.limits import LIMITS
from scenarios.refunds import REFUNDS
from scenarios.renewals import RENEWALS
from scenarios.shadows import SHADOWS
from scenarios.strangers import STRANGERS
from scenarios.takeovers import TAKEOVERS

SUBJECTS = (
    *(CHARGES, ALLOWANCES, CREDITS, REFUNDS, LIMITS),
    *(HOLDS, HOLD_ENDS, KEYS, TAKEOVERS, SHADOWS, RENEWALS, STRANGERS),
)
SCENARIOS: dict[str, list[Step]] = {
    name: steps for subject in SUBJECTS for name, steps in subject.items()
}
