-- Argo CD: is an AdapterRelease healthy? See docs/gitops.md for where this goes.
-- The same rules as `kubectl adapterrelease status` (controller/cli/standing.py).

-- Ready is False, and that is the usual way.
local waits = {
  Pending = true, Deleting = true, BaseNotFound = true, NoReadyBasePod = true, Loading = true, RollingBack = true,
}

local function is(status, message)
  return { status = status, message = message }
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
local retry = (obj.metadata.annotations or {})["adapterrelease.dev/retry"] or ""
if status.observedRetry ~= nil and status.observedRetry ~= retry then
  return is("Progressing", "the controller has not begun the new try yet")
end
if ready.status == "True" then
  local promoted = by_type.Promoted
  local asked = obj.spec.stage == "Stable" and obj.spec.rollback == nil
  if asked and promoted ~= nil and promoted.status ~= "True" then
    return is("Progressing", promoted.message)
  end
  return is("Healthy", ready.message)
end
if rollout.paused and ready.reason == "Pending" then
  return is("Suspended", "the canary waits for a person " .. (rollout.progress or ""))
end
if waits[ready.reason] then
  local progressing = by_type.Progressing
  local says = ready.reason == "Pending" and progressing ~= nil and progressing.status == "True"
  return is("Progressing", says and progressing.message or ready.message)
end
return is("Degraded", ready.message)
