{{/* The two services: one entry per Deployment. */}}
{{- define "ehr-chat.services" -}}
apiService: { name: api-service, port: 8081, adminPort: 9081 }
wsGateway: { name: ws-gateway, port: 8082, adminPort: 9082 }
{{- end }}

{{/* Call: (list $root "api-service"). These select pods, so they never change. */}}
{{- define "ehr-chat.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end }}

{{/* Labels of pods hold no version: a new chart must not replace pods whose image stays. */}}
{{- define "ehr-chat.podLabels" -}}
{{ include "ehr-chat.selector" . }}
app.kubernetes.io/part-of: ehr-chat
{{- end }}

{{- define "ehr-chat.labels" -}}
{{- $root := index . 0 -}}
{{ include "ehr-chat.podLabels" . }}
app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{/* What values.schema.json cannot say in words that help. Call: (list $root settings). */}}
{{- define "ehr-chat.validate" -}}
{{- $root := index . 0 -}}
{{- if not $root.Values.trustedProxies -}}
{{- fail "trustedProxies: name the addresses of the pods that forward requests, as [10.42.7.0/24]; without them every user has the address of a proxy" -}}
{{- end -}}
{{- range $root.Values.trustedProxies -}}
{{- if regexMatch "^(172\\.16\\.0\\.0/12|192\\.168\\.0\\.0/16|.*/([0-9]|1[01]))$" . -}}
{{- fail (printf "trustedProxies: %s is a whole private range, or wider; any pod in it could choose its own client address" .) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := index . 1 -}}
{{- if has $name (list "AUDIT_KEY" "AUDIT_PREVIOUS_KEYS" "CONTENT_KEYS" "DATABASE_READ_URL" "DATABASE_URL" "JWT_SECRET" "REDIS_URL" "RELAY_KEYS") -}}
{{- fail (printf "settings: %s is a secret; put it into the Secret of the service" $name) -}}
{{- end -}}
{{- if has $name (list "ADMIN_ADDR" "DATABASE_CA_FILE" "LISTEN_ADDR" "PLAINTEXT_LINKS" "REDIS_CA_FILE" "TRUSTED_PROXIES") -}}
{{- fail (printf "settings: the chart sets %s itself, from `trustedProxies`, `caBundle`, `plaintextLinks` and the ports" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Call: (list $root "api-service" tag digest). */}}
{{- define "ehr-chat.image" -}}
{{- $root := index . 0 -}}
{{- if has "latest" (list (index . 2) $root.Values.image.tag) -}}
{{- fail "image: name an exact version; `latest` changes without an upgrade" -}}
{{- end -}}
{{- $registry := required "image.registry: name the registry of the images, as registry.example.org/ehr-chat" $root.Values.image.registry -}}
{{- $registry -}}/{{- index . 1 -}}
{{- if index . 3 -}}@{{ index . 3 }}{{- else -}}:{{ index . 2 | default $root.Values.image.tag | default $root.Chart.AppVersion }}{{- end -}}
{{- end }}

{{/* No part of the chat talks to Kubernetes, and none needs rights on its node: the restricted profile. */}}
{{- define "ehr-chat.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if .Values.runAsUser }}
  runAsUser: {{ .Values.runAsUser }}
  runAsGroup: {{ .Values.runAsUser }}
  {{- end }}
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "ehr-chat.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "ehr-chat.host" -}}
{{- required "host: name the host under which browsers reach the chat, as chat.hospital.example" .Values.host -}}
{{- end }}

{{/* A rule for each kind of DNS server: pods in the cluster, and addresses on the nodes. */}}
{{- define "ehr-chat.dns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns.peers | nindent 4 }}
    {{- range .Values.networkPolicy.dns.addresses }}
    - ipBlock: { cidr: {{ . }} }
    {{- end }}
  ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - { protocol: UDP, port: {{ . }} }
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
{{- end }}

{{/* Call: (list $root "database"). */}}
{{- define "ehr-chat.egress" -}}
{{- $server := index (index . 0).Values.networkPolicy (index . 1) -}}
{{- $_ := required (printf "networkPolicy.%s.to: say where this server is: [{ ipBlock: { cidr: 10.20.0.10/32 } }], or the labels of its pods" (index . 1)) $server.to -}}
- to:
    {{- toYaml $server.to | nindent 4 }}
  ports:
    {{- range $server.ports }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
{{- end }}
