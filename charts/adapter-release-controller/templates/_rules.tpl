{{/*
What the controller may do in the namespaces that it watches: each verb is one that it uses.

Of Secrets it may read one name only, that of its own token, and those of `rbac.apiKeySecrets`. Adapter sources
(secretRef) and the base's API key (secretKeyRef) are mounted into Jobs and pods by the kubelet, in the release's own
namespace; the controller never reads them.
*/}}
{{- define "arc.rules" -}}
# Releases: read, and put the finalizer on and take it off. The spec belongs to people.
- apiGroups: [adapterrelease.dev]
  resources: [adapterreleases]
  verbs: [get, list, watch, patch]
- apiGroups: [adapterrelease.dev]
  resources: [adapterreleases/status]
  verbs: [update]
# The base's pods: read, and write the label that says that an adapter is loaded.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
# Routes: made, and pointed at another backend. They go with their release, by owner reference.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Canaries: two weights in the HTTPRoute that a release names. The rest of it is its owner's.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, patch]
# Contracts of jobs: made once, never changed. The engine plugin: brought to this controller's version.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [adapterrelease-engine]
  verbs: [patch]
# The token by which the engine plugin knows the controller: made once in each namespace. RBAC cannot say which names
# may be created; the admission policy does.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [adapterrelease-engine]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# The base is read; merged Deployments are made once, never changed, and deleted when they are done.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, delete]
# Replicas of candidates, and of bases that their releases allow to be scaled to zero; nothing else of a Deployment.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
# Evictions take merged pods one after another. A budget goes with its Deployment, by owner reference.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Proof that a route has reached its new backend.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
