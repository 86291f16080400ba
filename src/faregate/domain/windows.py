"""The windows of time on which the exactness of the ledger depends, in milliseconds.

`lua/lib/windows.lua` repeats those that scripts need; a test compares the two.
"""

#: How long a caller's id is recognised: a retry must come within a minute.
GIVEN_ID_MS_MAX = 60_000
#: How far a caller's id may be ahead of the ledger.
GIVEN_ID_AHEAD_MS_MAX = 5_000
#: How far a minted id may be ahead of the ledger. A search begins this long before the time of an
#: id, since a record may be older than its id by this much.
MINTED_ID_AHEAD_MS_MAX = 250
#: How long an attempt with a minted id may last, its retry included.
ATTEMPT_MS_MAX = 30_000
#: A record that is later than its id by more has a Redis key of its own. This bounds each search: a
#: record is this near its id, or has a key.
KEYLESS_MS_MAX = 250
#: The shortest time that a stored record stays in the stream. It covers `GIVEN_ID_MS_MAX` and
#: `ATTEMPT_MS_MAX`.
RETENTION_MS = 90_000
#: The default time that it stays: longer than the time that a failover of Postgres may lose.
STORED_MS = 600_000
#: How long the ledger remembers a refund, a void, a grant and the end of a hold. Later ones are
#: looked up in Postgres.
MEMORY_MS = 86_400_000
#: With an older pending record no refund and no grant is accepted, since a record that is pending
#: for longer than `MEMORY_MS` is known neither by its id nor as a row. The margin is an hour.
BACKLOG_AGE_MS_MAX = 82_800_000
#: How long a shadow balance lives after its last change: 35 days.
SHADOW_MS = 3_024_000_000
