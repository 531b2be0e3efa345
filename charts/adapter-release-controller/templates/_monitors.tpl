{{/* The endpoint of a monitor. Call with (list PORT VALUES). */}}
{{- define "arc.endpoint" -}}
{{- $values := index . 1 -}}
- port: {{ index . 0 }}
  path: /metrics
  {{- with $values.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with $values.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with $values.relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
