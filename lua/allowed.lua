-- allowed: returns the commands that the current Redis user may not send.
--
-- KEYS   none
-- ARGV   1..n commands with all their words, separated by blanks: `set fg:{0}:probe value`. One
--        with fewer words than the command takes stops some servers.
-- Reply  those commands that are not allowed
-- Appends nothing, and sends none of the commands.
-- flags: no-writes
-- uses: args

local refused = {}
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do
    words[#words + 1] = word
  end
  if #words == 0 then
    return invalid('command: at least one word')
  elseif not redis.acl_check_cmd(unpack(words)) then
    refused[#refused + 1] = command
  end
end
return refused
