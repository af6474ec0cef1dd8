{{/* What selects the pods: never changes, a Deployment's selector is immutable. */}}
{{- define "canary.selector" -}}
app.kubernetes.io/name: canary
app.kubernetes.io/component: controller
{{- end }}

{{- define "canary.labels" -}}
{{ include "canary.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "canary.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The port that Prometheus' pods are reached at, as the address says unless the value does. */}}
{{- define "canary.prometheusPort" -}}
{{- $url := urlParse .Values.prometheus.url -}}
{{- $said := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $usual := eq $url.scheme "https" | ternary "443" "80" -}}
{{- .Values.networkPolicy.prometheus.port | default ($said | default $usual | int) -}}
{{- end }}

{{/*
The pieces that kustomize uses too (files/ is copied from deploy/ and policies/ by scripts/deploy.py), for this
release's namespace. They name it by the literal `canary-system`.
*/}}
{{- define "canary.piece" -}}
{{ .text | replace "canary-system" .root.Release.Namespace | trim }}
{{- end }}
