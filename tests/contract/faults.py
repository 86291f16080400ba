"""One-line faults of the scripts, each with the scenarios that must find it.

A fault is a text of the scripts, and what stands there instead. Its subject is the table of
scenarios that finds it; a fault without one is found by the random machine.
"""

from dataclasses import dataclass

from scenarios.allowances import ALLOWANCES
from scenarios.attempts import ATTEMPTS
from scenarios.charges import CHARGES
from scenarios.credits import CREDITS
from scenarios.hold_ends import HOLD_ENDS
from scenarios.holds import HOLDS
from scenarios.keys import KEYS
from scenarios.limits import LIMITS
from scenarios.refunds import REFUNDS
from scenarios.shadows import SHADOWS
from scenarios.takeovers import TAKEOVERS
from scenarios.unknown_users import UNKNOWN_USERS
from spec.steps import Step


@dataclass(frozen=True, slots=True)
class Fault:
    """What is changed, and who must find it."""

    right: str
    wrong: str
    subject: dict[str, list[Step]] | None = None


FAULTS: dict[str, Fault] = {
    # Attempts.
    "a retry is not searched for below its own time": Fault(
        "local first_ms = id_ms - MINTED_ID_AHEAD_MS_MAX\n  local last_ms = math.min(now_ms",
        "local first_ms = id_ms\n  local last_ms = math.min(now_ms",
        ATTEMPTS,
    ),
    "a retry names no id": Fault(
        "name_id(account, spend.id_ms)\n", "local _ = account\n", ATTEMPTS
    ),
    "a void names no id": Fault(
        "name_id(account, math.min(id_ms, shard.now_ms + MINTED_ID_AHEAD_MS_MAX))", "", ATTEMPTS
    ),
    "a caller's id is not named": Fault(
        "name_id(account, math.min(spend.id_ms, spend.shard.now_ms))", "", ATTEMPTS
    ),
    "a refused retry leaves no note": Fault(
        "note_void(spend.shard, spend.id, spend.account.user)", "", ATTEMPTS
    ),
    "an id that was voided runs again": Fault(
        "elseif deduct and is_voided(deduct) then", "elseif false then", ATTEMPTS
    ),
    "an id far ahead is decided": Fault(
        "spend.id_ms > shard.now_ms + MINTED_ID_AHEAD_MS_MAX", "false", ATTEMPTS
    ),
    "an attempt lasts for ever": Fault(
        "or now_ms - spend.id_ms > ATTEMPT_MS_MAX and", "or false and", ATTEMPTS
    ),
    "a deadline is not looked at": Fault("return now_ms > deadline_ms", "return false", ATTEMPTS),
    "a retry is decided though its record may be gone": Fault(
        "or spend.id_ms - ahead_ms < spend.shard.oldest_ms", "", ATTEMPTS
    ),
    "a caller's id is known for ever": Fault(
        "is_given and GIVEN_ID_MS_MAX or MEMORY_MS", "MEMORY_MS", CHARGES
    ),
    "a retry is known for longer than its refund": Fault(
        "is_given and GIVEN_ID_MS_MAX or MEMORY_MS",
        "is_given and GIVEN_ID_MS_MAX or 2 * MEMORY_MS",
        REFUNDS,
    ),
    "a caller's id is not remembered": Fault(
        "remember_id(account, change, GIVEN_KEY_MS)", "", CHARGES
    ),
    "a charge long after the time of its id has no key": Fault(
        "or spend.shard.now_ms - spend.id_ms > KEYLESS_MS_MAX then", "then", ATTEMPTS
    ),
    "the record of an attempt is not searched for when its key has run out": Fault(
        "local is_keyed = now_ms - GIVEN_KEY_MS < id_ms", "local is_keyed = true", ATTEMPTS
    ),
    "a retry with another cost is answered": Fault(
        "and earlier.amount == -spend.cost", "", CHARGES
    ),
    "a charge is taken for a hold": Fault(
        "and (earlier.is_hold or false) == (spend.hold ~= nil)", "", HOLDS
    ),
    # Shards and calls.
    "a clock that steps back is followed": Fault(
        "local now_us = math.max(clock_us, last_us)", "local now_us = clock_us", CHARGES
    ),
    "the spends of a user in one call do not see each other": Fault(
        "local account = call.by_key[key]", "local account = nil", CHARGES
    ),
    "the records of a call do not count as pending": Fault(
        "pending_count(shard) >= call.pending_max",
        "pending_count(shard) > call.pending_max",
        UNKNOWN_USERS,
    ),
    "trimmed records are taken for kept": Fault(
        "shard.oldest_ms = math.max(shard.oldest_ms, boundary)", "", ATTEMPTS
    ),
    # Periods and balances.
    "a period lasts for a day more": Fault(
        "if now_ms < ends_ms then", "if now_ms < ends_ms + DAY_MS then", ALLOWANCES
    ),
    "a rebuild forgets the period": Fault(
        "account.sequence, account.allowance, account.period_ms = sequence, allowance, period_ms",
        "account.sequence, account.allowance = sequence, allowance",
        REFUNDS,
    ),
    "a refund goes to the allowance first": Fault(
        "local bought = deduct.cost - deduct.allowance", "local bought = 0", ALLOWANCES
    ),
    "a grant is made twice": Fault("remember_id(account, change, MEMORY_MS)", "", CREDITS),
    # Limits.
    "a window is kept for ever": Fault(
        "expire_later(shard, key, math.ceil(limit.span_us / 1000))", "", LIMITS
    ),
    "a refusal takes from the limits": Fault(
        "if spend.limit > 0 then\n      return",
        "if spend.limit > 0 then\n      limits().count_request(spend)\n      return",
        LIMITS,
    ),
    # Refunds and voids.
    "a refund may be larger by one than what is left": Fault(
        "deduct.given_back + amount > deduct.cost then",
        "deduct.given_back + amount > deduct.cost + 1 then",
    ),
    "another user is refunded": Fault("or deduct.user ~= account.user then", "then", REFUNDS),
    "a void takes back what an earlier call was told": Fault(
        "at_ms >= asked_at_ms and at_ms <= deadline_ms", "at_ms <= deadline_ms", ATTEMPTS
    ),
    "a void takes back what a later call was told": Fault(
        "at_ms >= asked_at_ms and at_ms <= deadline_ms", "at_ms >= asked_at_ms", REFUNDS
    ),
    "a void takes back an earlier charge whose answers are forgotten": Fault(
        "return charged_ms < asked_at_ms or charged_ms", "return charged_ms", ATTEMPTS
    ),
    "a void takes back a later charge whose answers are forgotten": Fault(
        "return charged_ms < asked_at_ms or charged_ms > deadline_ms",
        "return charged_ms < asked_at_ms",
        ATTEMPTS,
    ),
    "a void takes back what a retry was told": Fault("return left ~= ''", "return false", ATTEMPTS),
    "a void keeps what nobody was told": Fault("return left ~= ''", "return true", ATTEMPTS),
    "a void keeps what a late retry was told in vain": Fault(
        "math.min(at_ms, deadline_ms)", "at_ms", ATTEMPTS
    ),
    "a void takes back the answers of all calls of its time": Fault(
        "if first_deadline_ms > 0 then", "if false then", ATTEMPTS
    ),
    "a void leaves the answer to the first sending": Fault(
        "of_deadline_ms == first_deadline_ms or", "", ATTEMPTS
    ),
    "a void takes back a hold of a later call": Fault(
        "or is_answered_elsewhere(hold.opened_ms)", "", HOLDS
    ),
    "a void is made anew once its refund is forgotten": Fault(
        "shard.now_ms - record.at_ms > BACKLOG_AGE_MS_MAX", "false", REFUNDS
    ),
    "a void decides before the deadline": Fault(
        "elseif shard.now_ms <= deadline_ms then", "elseif false then", REFUNDS
    ),
    # Holds.
    "a hold that has ended is still held": Fault(
        "account.held = math.max(0, account.held - hold.cost)", ""
    ),
    "a hold that has ended is kept for ever": Fault(
        "expire_later(shard, key, MEMORY_MS)\n  end\nend", "end\nend", HOLD_ENDS
    ),
    "an expired hold can be settled": Fault(
        "elseif shard.now_ms >= hold.expires_ms then", "elseif mode == 'expire' then", HOLD_ENDS
    ),
    # Idempotency keys.
    "a key that comes with another request is taken for a retry": Fault(
        "if lease.fingerprint ~= key.fingerprint then", "if false then", KEYS
    ),
    "a lease ends too late": Fault(
        "elseif shard.now_ms - lease.leased_ms < key.lease_ms then",
        "elseif shard.now_ms - lease.leased_ms <= key.lease_ms then",
        TAKEOVERS,
    ),
    "an attempt gives back a request that was taken over": Fault(
        "return lease ~= nil and lease.holder ~= random_half(attempt_id)",
        "return false",
        TAKEOVERS,
    ),
    "one key too many is remembered": Fault("> 2 * key.count_max", "> 2 * key.count_max + 2", KEYS),
    # Shadows.
    "a peek is counted": Fault("if cost == 0 then\n    return status", "if false then", SHADOWS),
}
