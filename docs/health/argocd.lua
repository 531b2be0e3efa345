-- Argo CD: is an AdapterRelease healthy? See docs/gitops.md for where this goes.
-- The same rules as `kubectl adapterrelease status` (controller/cli/standing.py).

-- Ready is False, and that is the usual way.
local waits = {
  Pending = true, Deleting = true, BaseNotFound = true, NoReadyBasePod = true, Loading = true, RollingBack = true,
}

local function is(status, message)
  return { status = status, message = message }
end

local function contains(list, test)
  for _, item in ipairs(list or {}) do
    if test(item) then
      return item
    end
  end
  return nil
end

-- A step of a canary that has no pause, has its weight, and was not approved for this artifact.
local function waits_for_person(spec, rollout)
  local memory = rollout.canary
  local canary = spec.rollout ~= nil and spec.rollout.canary or nil
  if rollout.step ~= "Shifting" or memory == nil or canary == nil or memory.since == nil then
    return false
  end
  local step = contains(canary.steps, function(s) return s.weight == memory.weight end)
  if step == nil or step.pause ~= nil then
    return false
  end
  local approved = canary.approved
  return approved == nil or approved.artifact ~= memory.artifact or approved.weight < memory.weight
end

if obj.metadata.deletionTimestamp ~= nil then
  return is("Progressing", "the release is being deleted")
end
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return is("Progressing", "the controller has not looked at this generation yet")
end
local by_type = {}
for _, condition in ipairs(status.conditions) do
  by_type[condition.type] = condition
end
local ready, rollout = by_type.Ready, status.rollout or {}
if ready == nil then
  return is("Progressing", "the controller has not looked at this release yet")
end
if waits_for_person(obj.spec, rollout) then
  return is("Suspended", "the canary has " .. rollout.canary.weight .. " % of the traffic and waits for a person")
end
if ready.status == "True" then
  local promoted = by_type.Promoted
  local asked = obj.spec.stage == "Stable" and obj.spec.rollback == nil
  if asked and promoted ~= nil and promoted.status ~= "True" then
    return is("Progressing", promoted.message)
  end
  return is("Healthy", ready.message)
end
-- An update that does not load: Ready says that it is under way, and the old version serves.
local loaded = by_type.AdapterLoaded
local refused = ready.reason == "Pending" and rollout.step == "Loading" and loaded ~= nil
if refused and loaded.status == "False" and not waits[loaded.reason] then
  return is("Degraded", loaded.message)
end
if waits[ready.reason] then
  local progressing = by_type.Progressing
  local says = ready.reason == "Pending" and progressing ~= nil and progressing.status == "True"
  return is("Progressing", says and progressing.message or ready.message)
end
return is("Degraded", ready.message)
