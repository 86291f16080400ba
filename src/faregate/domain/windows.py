"""Every window of time on which the exactness of the ledger rests, in milliseconds.

The scripts repeat those that they need in `lua/lib/windows.lua`; a test compares the two.
"""

#: How long an id that a caller gives is recognised: a retry comes within a minute.
GIVEN_ID_MS_MAX = 60_000
#: How far the clock of a caller that gives an id may be ahead of the ledger.
GIVEN_ID_AHEAD_MS_MAX = 5_000
#: How far a minted id may be ahead of the ledger. A search begins as long before the time of an id,
#: since a record may be that much older than its id.
MINTED_ID_AHEAD_MS_MAX = 250
#: How long an attempt with a minted id may last, its retry included.
ATTEMPT_MS_MAX = 30_000
#: How long after the time of its id it is charged at most without a key of its own. It bounds every
#: search: a record lies that near its id, or has a key.
KEYLESS_MS_MAX = 250
#: How long a stored record stays in the stream at least. It covers `GIVEN_ID_MS_MAX` and
#: `ATTEMPT_MS_MAX`.
RETENTION_MS = 90_000
#: How long it stays if nothing is said: longer than what a failover of Postgres may lose.
STORED_MS = 600_000
#: How long the ledger knows a refund, a void, a grant and the end of a hold; then Postgres does.
MEMORY_MS = 86_400_000
#: From which age of a pending record on no refund and no grant is accepted: a record that waits for
#: longer than `MEMORY_MS` is known neither by its id nor as a row. The margin is an hour.
BACKLOG_AGE_MS_MAX = 82_800_000
#: How long a shadow balance is kept after its last change: 35 days.
SHADOW_MS = 3_024_000_000
