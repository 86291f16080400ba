-- What a script inside Redis may use. cjson is there, but no script of ours needs it.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV", "struct", "cjson", "bit" }
max_line_length = 100
-- A script gets whole fragments, with functions and constants that it may not need.
ignore = { "211" }
