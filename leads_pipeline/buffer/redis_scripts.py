"""The scripts that Redis runs whole or not at all. With ``#!lua`` a script is refused before its first write when Redis
is full, read-only or cannot write its disk.
"""

# One group commit. KEYS: the counters, the streams, then the idempotency key of each lead. ARGV: seconds that a key is
# kept, a name for a buffer that has none, how many streams and how many groups (tenant, source, lane); for each group
# its name and the number of its stream; then for each lead: id and body hash (32 bytes), the number of its group (2
# bytes), its JSON. Two arguments a lead instead of five: packing them was what an append cost most.
# The answer for a lead is nil if it is the first under its key, else what stands there.
APPEND = """#!lua
local counters, seconds = KEYS[1], ARGV[1]
local streams, groups = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HLEN', counters)
for s = 1, streams do redis.call('XLEN', KEYS[1 + s]) end  -- a key of another type shows before anything is written
redis.call('HSETNX', counters, 'incarnation', ARGV[2])
local stream, captured, duplicates, answers = {}, {}, {}, {}
for g = 1, groups do
  stream[g] = KEYS[1 + tonumber(ARGV[4 + 2 * g])]
  captured[g], duplicates[g] = 0, 0
end
local before = 4 + 2 * groups
for i = 1, #KEYS - 1 - streams do
  local lead = ARGV[before + i]
  local mine = string.sub(lead, 1, 32)
  local g = string.byte(lead, 33) * 256 + string.byte(lead, 34)
  local first = redis.call('SET', KEYS[1 + streams + i], mine, 'NX', 'GET', 'EX', seconds)
  answers[i] = first
  if not first then
    redis.call('XADD', stream[g], '*', 'lead', string.sub(lead, 35))
    captured[g] = captured[g] + 1
  elseif first ~= mine and string.sub(first, 17) == string.sub(mine, 17) then
    duplicates[g] = duplicates[g] + 1
  end
end
for g = 1, groups do
  local name = ARGV[3 + 2 * g]
  if captured[g] > 0 then redis.call('HINCRBY', counters, 'captured:' .. name, captured[g]) end
  if duplicates[g] > 0 then redis.call('HINCRBY', counters, 'duplicates:' .. name, duplicates[g]) end
end
return answers
"""

# Leads for a worker: first what another took and left for longer than the lease, then what is new. KEYS: the stream.
# ARGV: the consumer group, the consumer, the lease in ms, how many at most. The answer is the ids, the lengths of the
# leads, and the leads one after the other: three strings, because a client reads thousands of small ones slowly.
# A full Redis allows it: taking leads out is what makes room.
TAKE = """#!lua flags=allow-oom
local stream, group, consumer, lease, room = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('EXISTS', stream) == 0 then return {'', '', ''} end
local entries, cursor = {}, '0-0'
repeat
  local found = redis.pcall('XAUTOCLAIM', stream, group, consumer, lease, cursor, 'COUNT', room - #entries)
  if found.err then
    if not string.find(found.err, 'NOGROUP', 1, true) then return found end
    redis.call('XGROUP', 'CREATE', stream, group, '0')
    cursor = '0-0'
  else
    cursor = found[1]
    for _, entry in ipairs(found[2]) do entries[#entries + 1] = entry end
  end
until cursor == '0-0' or #entries >= room
if #entries < room then
  local rest = room - #entries
  local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', rest, 'STREAMS', stream, '>')
  if found then
    for _, entry in ipairs(found[1][2]) do entries[#entries + 1] = entry end
  end
end
local ids, lengths, leads = {}, {}, {}
for i, entry in ipairs(entries) do
  local lead = ''
  for f = 1, #entry[2], 2 do
    if entry[2][f] == 'lead' then lead = entry[2][f + 1] end
  end
  ids[i], lengths[i], leads[i] = entry[1], #lead, lead
end
return {table.concat(ids, ' '), table.concat(lengths, ' '), table.concat(leads)}
"""

# Let go of leads. KEYS: the stream. ARGV: the consumer group, then the ids. A script, because a full Redis refuses the
# same two commands in a transaction; in pieces, because a call takes 8,000 arguments at most.
ACKNOWLEDGE = """#!lua flags=allow-oom
for i = 2, #ARGV, 1000 do
  local last = math.min(i + 999, #ARGV)
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, i, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, i, last))
end
"""

# From one stream to the end of another, as it is and once only. KEYS: from, to. ARGV: the consumer group of either
# stream that has one, why, then the ids. Says how many went.
TRANSFER = """#!lua flags=allow-oom
local moved = 0
for i = 3, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if #found == 1 then
    local fields, lead = found[1][2], ''
    for f = 1, #fields, 2 do
      if fields[f] == 'lead' then lead = fields[f + 1] end
    end
    redis.call('XADD', KEYS[2], '*', 'lead', lead, 'reason', ARGV[2])
    if ARGV[1] ~= '' then redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) end
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
return moved
"""
