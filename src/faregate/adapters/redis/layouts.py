"""The layouts of all bytes that Python and the Lua scripts exchange, in version 1.

Everything is big-endian. `struct` has no integers of six and seven bytes, so those are fields of
bytes here: `whole` reads them, and `int.to_bytes` writes them. A test holds this file against Lua.
"""

import struct
from collections.abc import Callable

VERSION = 1
#: The version of a closed shard.
CLOSED = 129
TIME_MS_BYTES = 6
TIME_US_BYTES = 7
ID_BYTES = 16

#: No time, in milliseconds.
NO_TIME = bytes(TIME_MS_BYTES)

#: Reads an integer of any length.
whole: Callable[[bytes], int] = int.from_bytes

# --- Values in Redis ---------------------------------------------------------------------------

#: version, epoch, ordinal of the last record, ordinal of the last one stored, last time (us),
#: oldest kept (ms).
STATE = struct.Struct(">BI6s6s7s6s")
#: version, flags, credits, sequence, newest id named (ms), allowance left, start of its period
#: (ms), credits held, open holds.
ACCOUNT = struct.Struct(">BBiI6si6s6sH")
#: After the account, for each rate limit of the user's own: digest of its name, arrival (us).
ARRIVAL = struct.Struct(">4s7s")
#: The header of an entry: version, epoch, ordinal of its first record, records, time (us).
ENTRY = struct.Struct(">BI6sH7s")
#: A record: its size, kind, flags, id, user, amount, credits after it, sequence.
RECORD = struct.Struct(">HBB16s16siiI")
#: With `HAS_ALLOWANCE`: change of the allowance, what is left of it, start of its period (ms).
RECORD_ALLOWANCE = struct.Struct(">ii6s")
#: Before a description, and before metadata, with `HAS_TEXT`.
TEXT_SIZE = struct.Struct(">H")
HAS_ALLOWANCE, HAS_REFERENCE, HAS_TEXT, IS_HOLD = 1, 2, 4, 8

#: A report of lost answers: version, flags. The ids of transactions follow.
LOST = struct.Struct(">BB")

# --- The call of `spend.lua` -------------------------------------------------------------------

#: version, shards, deadline (ms), most pending records of a shard.
CALL = struct.Struct(">BB6sI")
#: allowance, its rollover maximum, kind and length (ms) of its period, limits.
POLICY = struct.Struct(">iiB6sB")
#: kind, digest of its name, burst or count, interval or period (us).
LIMIT = struct.Struct(">B4sI7s")
#: flags, shard, policy, cost, id. Sections follow, each only if its flag is set.
SPEND = struct.Struct(">BBBi16s")
RETRY, GIVEN, TEXT, KEY, HOLD, RECORDED, SHADOW, LIMIT_KEYS = 1, 2, 4, 8, 16, 32, 64, 128
#: digest, fingerprint, lifetime (ms), lease (ms), most keys of the user.
SPEND_KEY = struct.Struct(">16s8s6s6sI")
#: lifetime (ms), 1 if it is kept at its expiry, most open holds of the user.
SPEND_HOLD = struct.Struct(">IBI")
#: starting credits, digest of the policy's name.
SPEND_SHADOW = struct.Struct(">i8s")

# --- Its reply ---------------------------------------------------------------------------------

#: version, shards.
REPLY = struct.Struct(">BB")
#: For each shard: its time (us), ms and number of the entry that was written (0 for none).
REPLY_SHARD = struct.Struct(">7s6sI")
#: For each spend: status, number of the limit that refuses, credits, sequence, allowance left, next
#: period (ms), wait (ms), index of its record in the entry, size of its details.
REPLY_SPEND = struct.Struct(">BBiIi6sIHB")
#: The details follow after all spends. For each limit of a spend: remaining, ms until the next.
REPLY_LIMIT = struct.Struct(">II")
#: `remaining` of a limit that was not checked.
NOT_CHECKED = 0xFFFFFFFF
#: For its idempotency key: state, id and amount of the first spend with it.
REPLY_KEY = struct.Struct(">B16si")
#: For its hold: expiry (ms).
REPLY_HOLD = struct.Struct(">6s")
