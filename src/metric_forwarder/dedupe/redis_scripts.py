"""What the dedupe store asks of Redis; ``dedupe/redis.py`` says what the keys hold."""

from metric_forwarder.clients.redis import Script, SetEach

# What happens to nearly all identities: they are new, and then delivered. A script would take the server twice the time.
# Token or mark, milliseconds.
LEASE, CONFIRM = SetEach("NX"), SetEach()

# For identities that are not new. KEYS, token, milliseconds of a lease, milliseconds of the window → one letter or mark for
# each key, then a line with the label of each rejected one. Delivered and uncertain identities are remembered for a whole
# window again, rejected ones are not. SET and not PEXPIRE, which users with narrow rights may lack.
CLAIM = Script("""
local call, claims, labels = redis.call, {}, {}
local token, lease, window = unpack(ARGV)
for i, key in ipairs(KEYS) do
  local held = call('GET', key)
  if held == '1' or held == '?' then
    call('SET', key, held, 'PX', window)
    claims[i] = held
  elseif not held then
    call('SET', key, token, 'PX', lease)
    claims[i] = 'o'
  elseif held == token then
    claims[i] = 'o'
  elseif #held > 8 and string.sub(held, 1, 8) == 'refused:' then
    claims[i] = 'r'
    labels[#labels + 1] = string.char(10) .. string.sub(held, 9, 72)
  else
    claims[i] = 'h'
  end
end
return table.concat(claims) .. table.concat(labels)
""")

# KEYS, mark (uncertain or rejected), milliseconds. Overwrites a lease of any instance. Delivered stays delivered, and a
# rejection does not replace an uncertain mark.
REMEMBER = Script("""
local call, mark, window = redis.call, unpack(ARGV)
for _, key in ipairs(KEYS) do
  local known = call('GET', key)
  if known ~= '1' and (mark == '?' or known ~= '?') then
    call('SET', key, mark, 'PX', window)
  end
end
""")

# KEYS, token. Only one's own lease.
RELEASE = Script("""
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('DEL', key)
  end
end
""")
