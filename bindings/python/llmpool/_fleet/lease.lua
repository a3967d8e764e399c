-- The store of a fleet: lends what a budget allows to the processes that share it, one EVALSHA an ask. What it decides, and
-- why so, is in docs/fleet.md.
--
-- KEYS, all of one budget, with one hash tag between braces:
--   1 state    the limits and what is common, packed
--   2 members  by their ids: what each was lent and wants, packed
--   3 ends     members by the end of their leases
--   4 gone     members whose time is over, by when they are forgotten
--   5-7        the queues of those that lack something, of high, normal and low priority: members by what they were given
--
-- ARGV, whole numbers all but the first two and the label:
--   "ask"    id  now_ms (0: the server's clock)  lease_ms  label
--            sequence  in_flight  waiting  max_concurrent (0: none)  stopped_ms  members
--            and of each limit thirteen: unit  told  amount  window_ms  capacity  held  spent
--            wanted_high  wanted  wanted_low  least  expected  remaining (-2^63: nothing new)
--            -> valid_ms  members  places (-1: any number)  stopped_ms, and of each limit in the same order: amount  granted
--   "leave"  as "ask": what is held comes back, and the member is no more. Without limits it counts as spent.
--            -> members
--   "status" ""  now_ms
--            -> JSON, or nil where there is nothing
--
-- Times are in milliseconds, amounts in their units. Numbers are doubles, whole ones exact up to 2^53.

-- Of what is packed: what another one wrote is worth nothing.
local VERSION = 1
local NOTHING_NEW = -9223372036854775808
local HEAD, WIDTH = 11, 13
-- So many turns are given, and so many members buried, at a time: the next ask goes on.
local TURNS, BURIED = 16, 64
-- For so many leases who lacks what others hold keeps it from them.
local PATIENCE = 2
local LONGEST_STOP = 600000
-- What takes longer to come back a stop does not empty: it is not what a provider means by it.
local LONGEST_DRAINED = 61000
-- Keys live so long at least, and in leases; those of a limit of a day or a month live for that.
local SHORTEST_LIFE, LEASES_OF_LIFE, LONGEST_LIFE = 60000, 10, 2678400000
-- Of a limit with so long a window a new store takes all to be there but what members say they spent.
local LONG_WINDOW = 3600000
-- Longer than what a member tells of an answer is old.
local CONSUMED_WINDOW = 32000
-- What is used is averaged over so long.
local AVERAGE = 10000
-- A clock that goes back by more is another one.
local STEP_BACK = 1000

local verb, id = ARGV[1], ARGV[2]
local STATE, MEMBERS, ENDS, GONE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local QUEUES = {KEYS[5], KEYS[6], KEYS[7]}

local now = tonumber(ARGV[3])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + time[2] / 1000
end

local lease = tonumber(ARGV[4])
local state
-- By their ids; false: there is none. Those of `changed` are written at the end.
local records, changed = {}, {}
-- How many members live, this one with them.
local alive = 0

local floor, max, min = math.floor, math.max, math.min

local function new_state()
  return {
    version = VERSION, now = now, known = 0, stop = 0, turns = {0, 0, 0}, count = 0, queued = 0, limits = {},
    used = 0, hungry = 0, hungry_used = 0, concurrency = {},
  }
end

local function queued()
  return redis.call('ZCARD', QUEUES[1]) + redis.call('ZCARD', QUEUES[2]) + redis.call('ZCARD', QUEUES[3])
end

-- Part of the keys may be gone, as a server that is short of memory drops single ones: the rest is worth nothing then.
local function is_whole()
  return redis.call('HLEN', MEMBERS) == state.count and queued() == state.queued
    and redis.call('ZCARD', ENDS) + redis.call('ZCARD', GONE) == state.count
end

local function load()
  local packed = redis.call('GET', STATE)
  state = packed and cmsgpack.unpack(packed)
  if state and state.version == VERSION and state.now <= now + STEP_BACK and is_whole() then
    now = max(state.now, now) -- a clock that goes back a little stands still: nothing comes back twice
    state.now = now
    return
  end
  redis.call('DEL', unpack(KEYS))
  state = new_state()
end

local function life()
  local longest = max(SHORTEST_LIFE, LEASES_OF_LIFE * lease, state.stop - now + lease)
  for _, limit in pairs(state.limits) do longest = max(longest, limit.window) end
  return floor(min(longest, LONGEST_LIFE))
end

local function save()
  for each in pairs(changed) do
    if records[each] then
      redis.call('HSET', MEMBERS, each, cmsgpack.pack(records[each]))
    else
      redis.call('HDEL', MEMBERS, each)
    end
  end
  state.count, state.queued = redis.call('HLEN', MEMBERS), queued()
  local time = life()
  for key, limit in pairs(state.limits) do
    if limit.users == 0 and limit.at + time < now then state.limits[key] = nil end
  end
  redis.call('SET', STATE, cmsgpack.pack(state), 'PX', time)
  for index = 2, 7 do redis.call('PEXPIRE', KEYS[index], time) end
end

local function record_of(each)
  if records[each] == nil then
    local packed = redis.call('HGET', MEMBERS, each)
    records[each] = packed and cmsgpack.unpack(packed) or false
  end
  return records[each]
end

-- Counts one more, or one less, of a number that members have.
local function count(numbers, number, by)
  local key = string.format('%.0f', number)
  local sum = (numbers[key] or 0) + by
  numbers[key] = sum > 0 and sum or nil
end

local function least_of(numbers)
  local least
  for key in pairs(numbers) do least = min(least or math.huge, tonumber(key)) end
  return least
end

local function is_stopped() return state.stop > now end

-- An average that fades, as of now.
local function faded(average, at) return average * math.exp(-max(0, now - at) / AVERAGE) end

-- ---- limits

local function rate(limit) return limit.amount / limit.window end

local function room(limit) return limit.capacity - limit.free - limit.allotted - limit.held end

-- What has come back. A new store takes those that it does not know yet to spend their safe shares for one lease.
local function tick(limit)
  local share = 1
  if limit.created + lease > now then
    if state.known > 0 then share = min(1, alive / state.known) end
  elseif limit.begin then
    limit.free = limit.free + max(0, min(limit.begin, room(limit)))
    limit.begin = nil
  end
  if not is_stopped() then
    limit.free = limit.free + max(0, min(rate(limit) * (now - limit.at) * share, room(limit)))
  end
  limit.at = now
end

-- In how many milliseconds its capacity comes back: members may know different ones.
local function burst_of(told) return floor(told.capacity * told.window / told.amount + 0.5) end

-- By the smallest amount and the smallest burst that a member knows. A whole one at least, as requests are whole.
local function capacity_of(limit) return max(1, math.ceil(rate(limit) * least_of(limit.bursts) - 1e-6)) end

-- Of a configured limit the smallest amount holds, of a told one the latest.
local function know(told, loan)
  local limit = state.limits[told.key]
  if not limit then
    limit = {
      unit = told.unit, told = told.told, amount = 0, window = told.window, capacity = 0, free = 0, allotted = 0, held = 0,
      at = now, created = now, amounts = {}, bursts = {}, users = 0, used = 0, consumed = 0, consumed_before = 0,
      consumed_at = now,
    }
    if told.told == 0 and told.window >= LONG_WINDOW then limit.begin = told.capacity end
    state.limits[told.key] = limit
  end
  tick(limit) -- at the rate of before
  local amount = told.amount
  if told.told == 0 then
    if loan then
      count(limit.amounts, loan.amount, -1)
      count(limit.bursts, loan.burst, -1)
    end
    count(limit.amounts, amount, 1)
    count(limit.bursts, burst_of(told), 1)
    amount = least_of(limit.amounts)
  elseif told.remaining == NOTHING_NEW and limit.amount > 0 then
    return limit
  end
  limit.amount, limit.window = amount, told.window
  limit.capacity = told.told == 0 and capacity_of(limit) or told.capacity
  return limit
end

-- Of one that was gone: it may have been for long, and all do not stand still for that.
local function charge(limit, back)
  limit.free = max(limit.free + back, min(limit.free, -rate(limit) * lease))
end

-- Who spent more than it was lent is lent that at once: it is gone, so that all wait until it has come back.
local function pay(limit, loan)
  local debt = max(0, -loan.out - loan.allotted)
  limit.free = limit.free - debt
  limit.allotted = limit.allotted + debt
  loan.allotted = loan.allotted + debt
end

-- What was lent is spent, is still there, or comes back. One that is not known has what it says.
local function account(limit, told, loan, before)
  if loan then
    local consumed = told.spent - loan.spent
    limit.free = limit.free + loan.out - consumed - told.held
    limit.held = limit.held + told.held - loan.out
    limit.consumed = limit.consumed + max(0, consumed)
    limit.used = faded(limit.used, limit.used_at or now) + max(0, consumed)
    limit.used_at = now
    loan.used = faded(loan.used, loan.at) + max(0, consumed)
  else
    loan = {allotted = 0, used = 0}
    limit.held = limit.held + told.held
    limit.users = limit.users + 1
    if before then charge(limit, before.out - (told.spent - before.spent) - told.held) end
    if limit.begin then limit.begin = limit.begin - max(0, told.spent + told.held) end
  end
  loan.out, loan.spent, loan.amount, loan.burst, loan.at = told.held, told.spent, told.amount, burst_of(told), now
  pay(limit, loan)
  limit.free = min(limit.free, limit.capacity - limit.allotted - limit.held)
  return loan
end

-- What the provider says is left: less at once, as what it does not have it refuses; more by and by, as it was left some
-- seconds ago, and what was consumed since may be in it still.
local function fold(limit, remaining)
  if limit.consumed_at + CONSUMED_WINDOW <= now then
    limit.consumed_before, limit.consumed, limit.consumed_at = limit.consumed, 0, now
  end
  if remaining == NOTHING_NEW then return end
  local own = limit.free + limit.allotted
  local most = own + limit.held + limit.consumed + limit.consumed_before + rate(limit) * 2000
  if remaining < own then
    limit.free = limit.free - (own - remaining)
  elseif remaining > most then
    limit.free = min(limit.free + (remaining - most) / 2, limit.capacity - limit.allotted - limit.held)
  end
end

-- What it has, and what was put by for it, is there for the high first.
local function want(limit, told, loan)
  local have = told.held + loan.allotted
  loan.least = max(1, told.least)
  loan.met, loan.unmet = {}, {}
  for rank, wanted in ipairs(told.wanted) do
    loan.met[rank] = min(have, wanted)
    loan.unmet[rank] = wanted - loan.met[rank]
    have = have - loan.met[rank]
  end
  local back = floor(min(loan.allotted, max(0, have - told.expected)))
  loan.surplus = have - back
  loan.allotted = loan.allotted - back
  limit.allotted = limit.allotted - back
  limit.free = limit.free + back
end

local function drop(key, loan, is_given_back)
  local limit = state.limits[key]
  if not limit then return end
  limit.users = limit.users - 1
  if limit.told == 0 then
    count(limit.amounts, loan.amount, -1)
    count(limit.bursts, loan.burst, -1)
    local least = least_of(limit.amounts)
    if least then
      limit.amount = least
      limit.capacity = capacity_of(limit)
    end
  end
  limit.held = limit.held - loan.out
  limit.allotted = limit.allotted - loan.allotted
  limit.free = limit.free + loan.allotted + (is_given_back and max(0, loan.out) or 0)
end

-- ---- turns: requests are whole, so what is lent is enough for one at least, and what is saved up lies here

local function leave_queue(each, record)
  if record.rank then redis.call('ZREM', QUEUES[record.rank], each) end
  record.rank = nil
end

local function is_lacking(record, rank)
  for _, loan in pairs(record.loans) do
    if loan.unmet[rank] > 0 then return true end
  end
  return false
end

-- Stands in the queue of its highest class in which something is lacking.
local function queue(each, record)
  local rank = (is_lacking(record, 1) and 1) or (is_lacking(record, 2) and 2) or (is_lacking(record, 3) and 3) or nil
  if rank == record.rank then return end
  leave_queue(each, record)
  if rank then
    record.rank = rank
    record.served = max(record.served, state.turns[rank])
    redis.call('ZADD', QUEUES[rank], record.served, each)
  end
end

-- Who has the next turn: of the highest class the one that was given least. So many before it are passed over.
local function next_turn(passed)
  for rank = 1, 3 do
    local each = redis.call('ZRANGE', QUEUES[rank], passed, passed)[1]
    while each and not record_of(each) do
      redis.call('ZREM', QUEUES[rank], each)
      each = redis.call('ZRANGE', QUEUES[rank], passed, passed)[1]
    end
    if each then return each, rank end
    passed = passed - redis.call('ZCARD', QUEUES[rank])
  end
end

-- How much must be there. For one request of more than half of what there ever is the others' remainders, too small for
-- theirs, are not waited for; for one of more than all of it, as where others know less, no more than all.
local function enough_for(limit, loan, need, covered)
  if covered > 0 or loan.least <= limit.capacity / 2 then return need - 1e-6 end
  return min(need, limit.capacity - loan.out - loan.allotted) - limit.capacity / 10
end

-- What is lacking for one more request, and for as many as a fair part of the scarcest limit is enough for: of what it has
-- more of than of another it is given none, as that would lie there. nil: something is not there yet, and is saved up; or
-- cannot come, as the others hold all there is of the limit that is named, or as it is blocked.
local function gifts_of(record, rank, blocked)
  local waiting = redis.call('ZCARD', QUEUES[rank])
  local covered, requests = math.huge, math.huge
  for key, loan in pairs(record.loans) do
    if loan.unmet[rank] > 0 then
      local limit = state.limits[key]
      tick(limit)
      local share = blocked[key] and 0 or limit.free / waiting
      covered = min(covered, floor(loan.met[rank] / loan.least))
      requests = min(requests, floor((loan.met[rank] + share) / loan.least))
    end
  end
  requests = max(covered + 1, requests)
  local gifts = {}
  for key, loan in pairs(record.loans) do
    local unmet = loan.unmet[rank]
    if unmet > 0 then
      local limit = state.limits[key]
      local need = min(unmet, (covered + 1) * loan.least - loan.met[rank])
      if need > 0 and blocked[key] then return nil, key end
      if limit.free < enough_for(limit, loan, need, covered) then return nil, room(limit) < 1e-6 and key or nil end
      gifts[key] = max(0, min(unmet, requests * loan.least - loan.met[rank]))
    end
  end
  return gifts
end

local function give_turn(each, rank, gifts)
  local record = records[each]
  local time = 0
  for key, amount in pairs(gifts) do
    local limit, loan = state.limits[key], record.loans[key]
    limit.free = limit.free - amount
    limit.allotted = limit.allotted + amount
    loan.allotted = loan.allotted + amount
    loan.met[rank] = loan.met[rank] + amount
    loan.unmet[rank] = loan.unmet[rank] - amount
    time = max(time, amount / rate(limit))
  end
  record.passed_at = nil
  state.turns[rank] = max(state.turns[rank], record.served)
  record.served = record.served + time
  changed[each] = true
  if is_lacking(record, rank) then
    redis.call('ZADD', QUEUES[rank], record.served, each)
  else
    queue(each, record)
  end
end

-- Who lacks what others hold lets them go first, as they may lack something else. Of that limit they are given nothing
-- meanwhile, or they would hold it for ever; but for a turn now and then, for those that hold too little for a request.
local function let_pass(each, key, blocked)
  local record = records[each]
  if (record.passed_at or now) + PATIENCE * lease < now then
    record.passed_at = now
  else
    record.passed_at = record.passed_at or now
    blocked[key] = true
  end
  changed[each] = true
end

local function distribute()
  if is_stopped() then
    for _, limit in pairs(state.limits) do
      if limit.capacity <= rate(limit) * LONGEST_DRAINED then limit.free = min(limit.free, 0) end
    end
    return
  end
  local passed, blocked = 0, {}
  for _ = 1, TURNS do
    local each, rank = next_turn(passed)
    if not each then return end
    local gifts, lent_out = gifts_of(records[each], rank, blocked)
    if gifts then
      give_turn(each, rank, gifts)
    elseif lent_out then
      let_pass(each, lent_out, blocked)
      passed = passed + 1
    else
      return
    end
  end
end

-- What was put by for it and, where nobody waits, what it may need soon.
local function collect(record, limits)
  local granted = {}
  local is_quiet = not is_stopped() and queued() == 0
  for index, told in ipairs(limits) do
    local limit, loan = state.limits[told.key], record.loans[told.key]
    local amount = 0
    if not is_stopped() then
      amount = floor(loan.allotted)
      loan.allotted = loan.allotted - amount
      limit.allotted = limit.allotted - amount
    end
    if is_quiet then
      local extra = min(max(0, told.expected - loan.surplus), max(0, floor(limit.free)))
      limit.free = limit.free - extra
      amount = amount + extra
    end
    loan.out = loan.out + amount
    limit.held = limit.held + amount
    granted[index] = amount
  end
  return granted
end

-- ---- places

local function used_places(record) return max(record.places, record.in_flight) end

local function leave_places(record)
  if not record.most then return end
  count(state.concurrency, record.most, -1)
  state.used = state.used - used_places(record)
  if record.is_hungry then
    state.hungry = state.hungry - 1
    state.hungry_used = state.hungry_used - used_places(record)
  end
  record.most = nil
end

-- Where others want some, too, no more than a fair part; and never more than are free.
local function give_places(record, waiting)
  local places = -1
  if record.most > 0 then
    count(state.concurrency, record.most, 1)
    local most = least_of(state.concurrency)
    local wanted, free = record.in_flight + waiting, most - state.used
    if state.hungry == 0 then
      places = min(free, wanted + floor(wanted / 4) + 1)
    else
      local sharing = state.hungry + (waiting > 0 and 1 or 0)
      local fair = max(1, floor((most - (state.used - state.hungry_used)) / sharing))
      places = min(wanted, fair, free)
    end
    places = max(0, places)
  end
  record.places = max(0, places)
  state.used = state.used + used_places(record)
  record.is_hungry = waiting > 0
  if record.is_hungry then
    state.hungry = state.hungry + 1
    state.hungry_used = state.hungry_used + used_places(record)
  end
  return places
end

-- ---- members

-- What it held counts as spent; what was put by for it is there for others. It may come back, and have spent its share.
local function bury(each)
  local record = record_of(each)
  redis.call('ZREM', ENDS, each)
  if not record then return end
  leave_queue(each, record)
  leave_places(record)
  local loans = {}
  for key, loan in pairs(record.loans) do
    drop(key, loan, false)
    loans[key] = {out = loan.out, spent = loan.spent}
  end
  records[each] = {gone = loans}
  changed[each] = true
  redis.call('ZADD', GONE, now + LEASES_OF_LIFE * lease, each)
end

local function drop_dead()
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, BURIED)) do bury(each) end
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', GONE, '-inf', now, 'LIMIT', 0, BURIED)) do
    redis.call('ZREM', GONE, each)
    records[each] = false
    changed[each] = true
  end
end

-- ---- what is asked

local function number(index) return tonumber(ARGV[index]) end

local function read_demand()
  local demand = {
    sequence = number(6), in_flight = number(7), waiting = number(8), most = number(9), stopped = number(10),
    members = number(11), limits = {},
  }
  for at = HEAD + 1, #ARGV - WIDTH + 1, WIDTH do
    local limit = {
      unit = number(at), told = number(at + 1), amount = max(1, number(at + 2)), window = max(1, number(at + 3)),
      capacity = number(at + 4), held = number(at + 5), spent = number(at + 6),
      wanted = {number(at + 7), number(at + 8), number(at + 9)}, least = number(at + 10), expected = number(at + 11),
      remaining = number(at + 12),
    }
    -- The window of a told limit is learned, and moves.
    limit.key = limit.told > 0 and ARGV[at] .. ':' .. ARGV[at + 1] or ARGV[at] .. ':0:' .. ARGV[at + 3]
    demand.limits[#demand.limits + 1] = limit
  end
  return demand
end

local function take(record, demand, before)
  state.known = max(state.known, demand.members)
  if demand.stopped > 0 then state.stop = max(state.stop, now + min(demand.stopped, LONGEST_STOP)) end
  local old = record.loans
  record.loans = {}
  for _, told in ipairs(demand.limits) do
    local loan = old[told.key]
    old[told.key] = nil
    local limit = know(told, loan)
    loan = account(limit, told, loan, before[told.key])
    fold(limit, told.remaining)
    want(limit, told, loan)
    record.loans[told.key] = loan
  end
  for key, loan in pairs(old) do drop(key, loan, true) end -- of a limit that it does not know any more
end

-- The member as it is now, and what it was lent before it was gone.
local function enter()
  local record = record_of(id)
  local before = {}
  if record and record.gone then
    before = record.gone
    redis.call('ZREM', GONE, id)
    record = nil
  end
  record = record or {sequence = -1, served = 0, places = 0, in_flight = 0, loans = {}}
  records[id] = record
  changed[id] = true
  redis.call('ZADD', ENDS, now + lease, id)
  alive = redis.call('ZCOUNT', ENDS, now, '+inf')
  return record, before
end

local function ask()
  load()
  state.label = ARGV[5]
  drop_dead()
  local demand = read_demand()
  local record, before = enter()
  leave_places(record)
  if demand.sequence > record.sequence then -- one that was overtaken says nothing new
    record.sequence, record.in_flight, record.waiting = demand.sequence, demand.in_flight, demand.waiting
    take(record, demand, before)
  end
  queue(id, record)
  distribute()
  local limits = {}
  for _, told in ipairs(demand.limits) do
    if record.loans[told.key] then limits[#limits + 1] = told end
  end
  local granted = collect(record, limits)
  record.most = demand.most
  local reply = {lease, alive, give_places(record, demand.waiting), floor(max(0, state.stop - now))}
  for index, told in ipairs(limits) do
    reply[#reply + 1] = state.limits[told.key].amount
    reply[#reply + 1] = granted[index]
  end
  save()
  return reply
end

local function leave()
  load()
  drop_dead()
  local record, before = enter()
  local demand = read_demand()
  local is_told = #demand.limits > 0
  if is_told and demand.sequence > record.sequence then take(record, demand, before) end
  leave_queue(id, record)
  leave_places(record)
  for key, loan in pairs(record.loans) do drop(key, loan, is_told) end
  redis.call('ZREM', ENDS, id)
  records[id] = false
  distribute()
  save()
  return alive - 1
end

-- ---- how it stands, for people

local function whole(number) return floor(number + 0.5) end

-- What is used, in a window of the limit.
local function used(average, at, window) return whole(faded(average, at) / AVERAGE * window) end

local function loans_of(record)
  local loans = {}
  for key, loan in pairs(record.loans) do
    local limit = state.limits[key]
    loans[#loans + 1] = {
      unit = limit.unit, told = limit.told, window_ms = limit.window, held = whole(loan.out),
      used = used(loan.used, loan.at, limit.window), lacking = whole(loan.unmet[1] + loan.unmet[2] + loan.unmet[3]),
    }
  end
  return loans
end

local function status()
  local packed = redis.call('GET', STATE)
  if not packed then return false end
  state = cmsgpack.unpack(packed)
  local shown = {
    label = state.label, stopped_ms = whole(max(0, state.stop - now)), places = least_of(state.concurrency) or 0,
    limits = {}, members = {},
  }
  for _, limit in pairs(state.limits) do
    if limit.users > 0 then
      shown.limits[#shown.limits + 1] = {
        unit = limit.unit, told = limit.told, amount = whole(limit.amount), window_ms = limit.window, free = whole(limit.free),
        held = whole(limit.held + limit.allotted), used = used(limit.used, limit.used_at or now, limit.window),
      }
    end
  end
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', ENDS, now, '+inf')) do
    local record = record_of(each)
    if record and record.loans then
      shown.members[#shown.members + 1] = {
        id = each, in_flight = record.in_flight, waiting = record.waiting, places = record.places, loans = loans_of(record),
      }
    end
  end
  return cjson.encode(shown)
end

if verb == 'ask' then return ask() end
if verb == 'leave' then return leave() end
if verb == 'status' then return status() end
return redis.error_reply('llmpool: no such verb')
