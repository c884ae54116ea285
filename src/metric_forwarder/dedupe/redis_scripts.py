"""What the dedupe store asks of Redis; ``dedupe/redis.py`` says what the keys hold."""

from metric_forwarder.clients.redis import Script, SetEach

# What happens to nearly all identities: they are new, and then delivered. A script would take the server twice the time.
# KEYS: that of the event, which lasts as long as its leases, and identities. Two durations in milliseconds, of the first key and of
# the others, and the value of each key.
LEASE = SetEach("NX")
# KEYS: parts of the record of an event, or identities; arguments as above.
CONFIRM = SetEach()

# What follows has the key of an event as its first one. A key that holds a lease says more together with the record and the key
# of the event that leased it: its point was delivered ('1'), it is free (false), or it is held.
_FATE = """
local call, event, parts, alive = redis.call, table.remove(KEYS, 1), {}, {}
local prefix, token = string.sub(event, 1, -9), string.sub(event, -8)
local function is_lease(held)
  return held and #held == 12 and string.sub(held, 1, 8) ~= 'refused:'
end
local function fate(held)
  if not is_lease(held) then return held end
  local holder, a, b, c, d = string.sub(held, 1, 8), string.byte(held, 9, 12)
  local place = ((256 * a + b) * 256 + c) * 256 + d
  local part = prefix .. holder .. math.floor(place / 1000)
  if parts[part] == nil then parts[part] = call('GET', part) or '' end
  if string.byte(parts[part], place % 1000 + 1) == 49 then return '1' end
  if alive[holder] == nil then alive[holder] = call('GET', prefix .. holder) end
  return alive[holder] and held
end
"""

# For identities that are not new. Milliseconds of the event's key, of a leased point's key and of the window, and the lease of each
# identity → one letter or mark for each, then a line with the label of each rejected one. Delivered and uncertain identities
# are remembered for a whole window again, rejected ones are not. SET and not PEXPIRE, which users with narrow rights may lack.
CLAIM = Script(
    _FATE
    + """
local claims, labels = {}, {}
call('SET', event, '1', 'PX', ARGV[1])
for i, key in ipairs(KEYS) do
  local held = fate(call('GET', key))
  if held == '1' or held == '?' then
    call('SET', key, held, 'PX', ARGV[3])
    claims[i] = held
  elseif not held then
    call('SET', key, ARGV[3 + i], 'PX', ARGV[2])
    claims[i] = 'o'
  elseif held == ARGV[3 + i] then
    claims[i] = 'o'
  elseif #held > 8 and string.sub(held, 1, 8) == 'refused:' then
    claims[i] = 'r'
    labels[#labels + 1] = string.char(10) .. string.sub(held, 9, 72)
  else
    claims[i] = 'h'
  end
end
return table.concat(claims) .. table.concat(labels)
"""
)

# Mark (uncertain or rejected), milliseconds. Delivered stays delivered, and a rejection does not replace an uncertain mark. What
# another event holds, that event decides.
REMEMBER = Script(
    _FATE
    + """
local mark, window = ARGV[1], ARGV[2]
for _, key in ipairs(KEYS) do
  local known = fate(call('GET', key))
  local is_others = is_lease(known) and string.sub(known, 1, 8) ~= token
  if known ~= '1' and not is_others and (mark == '?' or known ~= '?') then
    call('SET', key, mark, 'PX', window)
  end
end
"""
)

# Only leases of the event itself.
RELEASE = Script(
    _FATE
    + """
for _, key in ipairs(KEYS) do
  local held = call('GET', key)
  if is_lease(held) and string.sub(held, 1, 8) == token and fate(held) ~= '1' then
    call('DEL', key)
  end
end
"""
)
