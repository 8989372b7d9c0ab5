{{/* Labels of every object. */}}
{{- define "strongroom.labels" -}}
app.kubernetes.io/name: strongroom
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects the pods of one role: (dict "role" "serve" "root" $). */}}
{{- define "strongroom.selector" -}}
app.kubernetes.io/name: strongroom
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "strongroom.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* User name of one of our accounts: (dict "role" "serve" "root" $). */}}
{{- define "strongroom.user" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:strongroom-{{ .role }}
{{- end }}

{{/* Pod and container security of the roles that need nothing from their node (Pod Security "restricted"). */}}
{{- define "strongroom.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "strongroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What the kubelet would mount by itself, were automountServiceAccountToken on. Only roles that call the API get it. */}}
{{- define "strongroom.apiAccess" -}}
- name: api-access
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap:
        name: kube-root-ca.crt
        items: [{key: ca.crt, path: ca.crt}]
    - downwardAPI:
        items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}

{{/* The token that a role shows on the internal listener. */}}
{{- define "strongroom.internalToken" -}}
- name: internal-token
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {path: token, audience: {{ .Values.audiences.internal | quote }}, expirationSeconds: 600}
{{- end }}

{{- define "strongroom.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{/*
A guard: a policy and its binding, under the name strongroom-<name>: (dict "name" "grant" "root" $). What it says is the
template strongroom.guard.<name>; the operator is given the same text, and says so when a guard is missing or says
something else. An uninstall keeps guards, as it keeps what they guard.
*/}}
{{- define "strongroom.guard" }}
{{- range $kind := list "ValidatingAdmissionPolicy" "ValidatingAdmissionPolicyBinding" }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: strongroom-{{ $.name }}
  labels:
    {{- include "strongroom.labels" $.root | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
{{- if eq $kind "ValidatingAdmissionPolicy" }}
{{- include (printf "strongroom.guard.%s" $.name) $.root }}
{{- else }}
spec:
  policyName: strongroom-{{ $.name }}
  validationActions: [Deny]
{{- end }}
{{- end }}
{{- end }}

{{/* Names of all guards. */}}
{{- define "strongroom.guards" -}}
accounts destruction grant grant-vaults purge sealed-records status
{{- end }}
