-- What a script inside Redis may use. cjson is there, but no script of ours needs it.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV", "struct", "cjson", "bit" }
max_line_length = 100
-- A script gets a shared fragment whole, with constants, and a check of numbers, that it may
-- not need.
ignore = { "211/[A-Z_]+", "211/whole" }
