-- Argo CD health of landfall's kinds, from the conditions that `kubectl wait` and Flux read as well (kstatus).
local hs = { status = "Progressing", message = "waiting for the operator" }

local status = obj.status
if status == nil or status.observedGeneration == nil or status.conditions == nil then
  return hs
end
if status.observedGeneration < obj.metadata.generation then
  hs.message = "waiting for the operator to observe the current spec"
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
if ready == nil then
  return hs
end

hs.message = ready.reason .. ": " .. ready.message
if conditions["Stalled"] ~= nil and conditions["Stalled"].status == "True" then
  hs.status = "Degraded"
elseif ready.reason == "Paused" or ready.reason == "AwaitingPromotion" then
  hs.status = "Suspended"
elseif conditions["Reconciling"] ~= nil and conditions["Reconciling"].status == "True" then
  hs.status = "Progressing"
elseif ready.status == "True" then
  hs.status = "Healthy"
end
return hs
