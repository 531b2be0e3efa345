{{/* What every monitor begins with. Call with (list $ KIND NAME VALUES). */}}
{{- define "arc.monitor" -}}
{{- $root := index . 0 -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ index . 1 }}
metadata:
  name: {{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "arc.operatorLabels" $root | nindent 4 }}
    {{- with (index . 3).labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The namespaces that are watched, for a monitor of what is in them. */}}
{{- define "arc.watched" -}}
{{- with .Values.watchNamespaces -}}
matchNames:
  {{- toYaml . | nindent 2 }}
{{- else -}}
any: true
{{- end }}
{{- end }}

{{/*
The endpoint of a monitor. Call with (dict "port" PORT "values" VALUES), and "honorLabels" true where the labels that the
metrics have themselves are to stay: the controller says of which namespace a release is, and not of which it is itself.
*/}}
{{- define "arc.endpoint" -}}
- {{ ternary "port" "portNumber" (kindIs "string" .port) }}: {{ .port }}
  path: /metrics
  {{- if .honorLabels }}
  honorLabels: true
  {{- end }}
  {{- with .values.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .values.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .values.relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A monitor of vLLM. Call with (list $ NAME SELECTOR). */}}
{{- define "arc.vllmMonitor" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values.metrics.vllmPodMonitor -}}
{{ include "arc.monitor" (list $root "PodMonitor" (index . 1) $values) }}
spec:
  namespaceSelector:
    {{- include "arc.watched" $root | nindent 4 }}
  selector:
    {{- toYaml (index . 2) | nindent 4 }}
  podMetricsEndpoints:
  {{- range $values.ports }}
  {{- include "arc.endpoint" (dict "port" . "values" $values) | nindent 2 }}
  {{- end }}
{{- end }}
