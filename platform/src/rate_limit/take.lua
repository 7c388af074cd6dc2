-- Takes one request by GCRA. KEYS[1]: where the theoretical arrival time is kept. ARGV: the interval and the burst, and in
-- tests the time. All in microseconds: doubles hold integers exactly up to 2^53, which as a time is the year 2255.
-- Returns the time and what was kept before, from which the caller computes the same decision.
local interval, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  -- The server's clock, so that those of the callers do not matter.
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- Whatever else stands there counts as nothing.
local stored = redis.pcall('GET', KEYS[1])
local kept = now
if type(stored) == 'string' and #stored <= 16 and string.match(stored, '^%d+$') then
  kept = math.min(math.max(tonumber(stored), now), now + burst)
end
local next = kept + interval
if next - now <= burst then
  -- Kept until the quota is full again; a millisecond more, since the server rounds times down.
  local life = math.ceil((next - now) / 1000) + 1
  redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', string.format('%.0f', life))
end
return {now, kept}
