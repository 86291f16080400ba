-- Windows of time in milliseconds, and bounds. domain/windows.py owns the windows; a test compares.

local GIVEN_ID_MS_MAX = 60000
local GIVEN_ID_AHEAD_MS_MAX = 5000
local MINTED_ID_AHEAD_MS_MAX = 250
local ATTEMPT_MS_MAX = 30000
local KEYLESS_MS_MAX = 250
local MEMORY_MS = 86400000
local BACKLOG_AGE_MS_MAX = 82800000
local SHADOW_MS = 3024000000
local CREDITS_MAX = 2147483647
local SEQUENCE_MAX = 4294967295
local TIME_MS_MAX = 281474976710655
