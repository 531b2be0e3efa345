{{/* Names and labels. Names without a prefix are those that manifests/install.yaml has. */}}

{{- define "arc.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "arc.fullname" -}}
{{- $name := include "arc.name" . }}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $made | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/* For objects whose names do not end with "controller": roles of people and of the leader. */}}
{{- define "arc.stem" -}}
{{- include "arc.fullname" . | trimSuffix "-controller" }}
{{- end }}

{{/* For the cluster's objects: two releases in different namespaces must not share a name. */}}
{{- define "arc.clusterName" -}}
{{- $name := include "arc.fullname" . }}
{{- ternary (printf "%s-%s" .Release.Namespace $name) $name (eq .Values.rbac.scope "Namespaced") }}
{{- end }}

{{- define "arc.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "arc.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "arc.selector" -}}
app.kubernetes.io/name: {{ include "arc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "arc.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: {{ include "arc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: adapter-release-controller
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Of one of the controller's own objects. */}}
{{- define "arc.operatorLabels" -}}
{{ include "arc.labels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Call with (list $ .Values.image). */}}
{{- define "arc.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $tag := $image.tag | default $root.Chart.AppVersion }}
{{- $image.repository }}:{{ $tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "arc.leaseName" -}}
{{- .Values.settings.leaseName | default (include "arc.fullname" .) }}
{{- end }}

{{- define "arc.metricsPort" -}}
{{- .Values.settings.metricsPort | default 8080 | int }}
{{- end }}

{{/* What values.schema.json cannot say, because it concerns two values. */}}
{{- define "arc.check" -}}
{{- if and (eq .Values.rbac.scope "Namespaced") (not .Values.watchNamespaces) }}
{{- fail "rbac.scope: Namespaced needs watchNamespaces: the namespaces in which roles are made" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled would count everything twice: enable one" }}
{{- end }}
{{- if and .Values.store.create (not .Values.store.namespace) }}
{{- fail "store.create needs store.namespace: the namespace of the base that mounts it" }}
{{- end }}
{{- $duration := .Values.settings.leaseDuration | default 15 }}
{{- $deadline := .Values.settings.leaseRenewDeadline | default 10 }}
{{- $period := .Values.settings.leaseRetryPeriod | default 2 }}
{{- if not (and (gt (float64 $duration) (float64 $deadline)) (gt (float64 $deadline) (float64 $period))) }}
{{- fail (printf "needed: settings.leaseDuration (%v) > leaseRenewDeadline (%v) > leaseRetryPeriod (%v)" $duration $deadline $period) }}
{{- end }}
{{- $drain := .Values.settings.drainTimeout | default 20 }}
{{- if le (float64 .Values.terminationGracePeriodSeconds) (float64 $drain) }}
{{- fail (printf "terminationGracePeriodSeconds (%v) must be more than settings.drainTimeout (%v): the rest is for giving the Lease back" .Values.terminationGracePeriodSeconds $drain) }}
{{- end }}
{{- end }}
