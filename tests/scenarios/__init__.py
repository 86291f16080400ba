"""What the ledger must answer, as one table that runs on the memory adapter and on Redis alike.

A scenario is a list of steps of users who start with five credits, of sequence 1.
"""

from scenarios.alignments import ALIGNMENTS
from scenarios.allowances import ALLOWANCES
from scenarios.attempts import ATTEMPTS
from scenarios.charges import CHARGES
from scenarios.credits import CREDITS
from scenarios.hold_ends import HOLD_ENDS
from scenarios.holds import HOLDS
from scenarios.keys import KEYS
from scenarios.limits import LIMITS
from scenarios.refunds import REFUNDS
from scenarios.renewals import RENEWALS
from scenarios.shadows import SHADOWS
from scenarios.takeovers import TAKEOVERS
from scenarios.unknown_users import UNKNOWN_USERS
from spec.steps import Step

SUBJECTS = (
    *(CHARGES, ATTEMPTS, ALLOWANCES, CREDITS, REFUNDS, LIMITS),
    *(HOLDS, HOLD_ENDS, KEYS, TAKEOVERS, SHADOWS, RENEWALS, UNKNOWN_USERS, ALIGNMENTS),
)
SCENARIOS: dict[str, list[Step]] = {
    name: steps for subject in SUBJECTS for name, steps in subject.items()
}
