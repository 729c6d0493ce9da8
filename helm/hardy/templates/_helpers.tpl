{{- define "hardy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "hardy.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "hardy.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "hardy.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Never change between versions: Deployments select by them. */}}
{{- define "hardy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hardy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hardy.labels" -}}
{{ include "hardy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hardy.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "hardy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: needed without serviceAccount.create" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Of (root, name of the image). */}}
{{- define "hardy.image" -}}
{{- $root := index . 0 }}
{{- printf "%s%s:%s" $root.Values.image.registry (index . 1) (default $root.Chart.AppVersion $root.Values.image.tag) }}
{{- end }}

{{- define "hardy.workerImage" -}}
{{- $name := ternary "hardy-worker-cuda" "hardy-worker-cpu" .Values.worker.gpu.enabled }}
{{- include "hardy.image" (list . (default $name .Values.worker.image)) }}
{{- end }}

{{/* Settings as TOML. JSON's numbers, texts, booleans and lists are TOML's too; toToml would write 600 as 600.0. */}}
{{- define "hardy.toml" -}}
{{- range $section, $keys := . }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}

{{- define "hardy.rabbitmq" -}}
{{ include "hardy.fullname" . }}-rabbitmq
{{- end }}

{{- define "hardy.workerThreads" -}}
{{- dig "worker" "count" 0 (.Values.config | default dict) | int }}
{{- end }}

{{- define "hardy.tasksPerReplica" -}}
{{- $tasks := .Values.autoscaling.tasksPerReplica | int | default (include "hardy.workerThreads" . | int) }}
{{- if lt $tasks 1 }}
{{- fail "autoscaling.tasksPerReplica: needed when config.worker.count is 0 (one per core)" }}
{{- end }}
{{- $tasks }}
{{- end }}

{{/* Above worker.grace, or the kubelet would kill a worker that still brings its task to an end. */}}
{{- define "hardy.terminationGrace" -}}
{{- $grace := dig "worker" "grace" 120 (.Values.config | default dict) | int }}
{{- $wanted := .Values.worker.terminationGracePeriodSeconds | default (add $grace 60) | int }}
{{- if le $wanted $grace }}
{{- fail (printf "worker.terminationGracePeriodSeconds is %d and must be more than config.worker.grace, %d" $wanted $grace) }}
{{- end }}
{{- $wanted }}
{{- end }}

{{- define "hardy.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "hardy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What every pod is told: where broker and store are, who asks, and what its log looks like. */}}
{{- define "hardy.env" -}}
- name: HARDY_LOG_FORMAT
  value: {{ .Values.logFormat }}
{{ include "hardy.access" . }}
{{- end }}

{{- define "hardy.access" -}}
{{- if .Values.rabbitmq.cluster.enabled -}}
{{- if or .Values.rabbitmq.tls.existingSecret (dig "queue" "ca" "" (.Values.config | default dict)) }}
{{- fail "rabbitmq.tls and config.queue.ca: the broker of rabbitmq.cluster.enabled has no certificates" }}
{{- end -}}
- name: RABBITMQ_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ include "hardy.rabbitmq" . }}-default-user
      key: username
- name: RABBITMQ_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "hardy.rabbitmq" . }}-default-user
      key: password
- name: HARDY_QUEUE__URL
  value: amqp://$(RABBITMQ_USERNAME):$(RABBITMQ_PASSWORD)@{{ include "hardy.rabbitmq" . }}.{{ .Release.Namespace }}.svc:5672
{{- else -}}
- name: HARDY_QUEUE__URL
  valueFrom:
    secretKeyRef:
      name: {{ required "rabbitmq.existingSecret: needed without rabbitmq.cluster.enabled" .Values.rabbitmq.existingSecret }}
      key: {{ .Values.rabbitmq.urlKey }}
{{- end }}
{{- with .Values.s3 }}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .secretAccessKeyKey }}
{{- end }}
{{- end }}
{{- end }}

{{- define "hardy.mounts" -}}
- name: config
  mountPath: /etc/hardy
  readOnly: true
- name: scratch
  mountPath: /tmp
{{- if .Values.rabbitmq.tls.existingSecret }}
- name: tls
  mountPath: /etc/hardy-tls
  readOnly: true
{{- end }}
{{- end }}

{{/* Of (root, size of /tmp). */}}
{{- define "hardy.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ include "hardy.fullname" $root }}
- name: scratch
  emptyDir:
    sizeLimit: {{ index . 1 }}
{{- with $root.Values.rabbitmq.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- end }}

{{/* The store's own port is known; the broker's is in a Secret. */}}
{{- define "hardy.egressPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.egressPorts }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- range $settings := list .Values.config .Values.nightly.config }}
{{- with regexFind "^[a-zA-Z]+://[^/]*[^:/]:[0-9]+(/|$)" (dig "store" "endpoint" "" ($settings | default dict) | default "") }}
{{- $ports = append $ports (regexFind "[0-9]+$" (trimSuffix "/" .) | int) }}
{{- end }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{- define "hardy.httpEnv" -}}
- name: HARDY_HTTP__LISTEN
  value: {{ printf "%s:9090" .Values.web.address | quote }}
{{- end }}

{{/* Of (name of the variable, Secret, key); nothing without a Secret. */}}
{{- define "hardy.secretEnv" -}}
{{- if index . 1 }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}
{{- end }}

{{/* A worker reads its settings when it starts: new settings, new pods. */}}
{{- define "hardy.checksum" -}}
checksum/config: {{ include "hardy.toml" .Values.config | sha256sum }}
{{- end }}

{{/* The pod of a short command, where coordinators may run: (root, arguments, more environment). */}}
{{- define "hardy.commandPod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "hardy.serviceAccount" $root }}
automountServiceAccountToken: false
restartPolicy: Never
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "hardy.podSecurity" $root | nindent 2 }}
containers:
  - name: hardy
    image: {{ include "hardy.image" (list $root $root.Values.coordinator.image) }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{- toYaml (index . 1) | nindent 6 }}
    env:
      {{- include "hardy.env" $root | nindent 6 }}
      {{- with $root.Values.coordinator.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with index . 2 }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {memory: 512Mi}
    securityContext: {{- include "hardy.containerSecurity" $root | nindent 6 }}
    volumeMounts: {{- include "hardy.mounts" $root | nindent 6 }}
volumes: {{- include "hardy.volumes" (list $root "1Gi") | nindent 2 }}
{{- with $root.Values.coordinator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.coordinator.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of a worker, in a Deployment or a ScaledJob: (root, restart policy, more environment). */}}
{{- define "hardy.workerPod" -}}
{{- $root := index . 0 -}}
{{- $worker := $root.Values.worker -}}
{{- if and (eq (include "hardy.workerThreads" $root) "0") (not (dig "limits" "cpu" "" ($worker.resources | default dict))) }}
{{- fail "config.worker.count is 0, one thread for each core, and without worker.resources.limits.cpu these are the node's; set one of the two" }}
{{- end -}}
{{- if dig "worker" "idle" 0 ($root.Values.config | default dict) }}
{{- fail "config.worker.idle: a Deployment starts a worker that left anew; autoscaling.jobIdleSeconds is for scaledjob" }}
{{- end -}}
serviceAccountName: {{ include "hardy.serviceAccount" $root }}
automountServiceAccountToken: false
restartPolicy: {{ index . 1 }}
terminationGracePeriodSeconds: {{ include "hardy.terminationGrace" $root }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $worker.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $worker.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "hardy.podSecurity" $root | nindent 2 }}
containers:
  - name: worker
    image: {{ include "hardy.workerImage" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: [worker, --config, /etc/hardy/hardy.toml]
    env:
      {{- include "hardy.env" $root | nindent 6 }}
      {{- include "hardy.httpEnv" $root | nindent 6 }}
      {{- with index . 2 }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $worker.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 9090
    livenessProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: 20
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: http}
      periodSeconds: 10
      timeoutSeconds: 5
    {{- $resources := deepCopy $worker.resources }}
    {{- if $worker.gpu.enabled }}
    {{- $resources = mergeOverwrite $resources (dict "limits" (dict $worker.gpu.resource $worker.gpu.count)) }}
    {{- end }}
    resources: {{- toYaml $resources | nindent 6 }}
    securityContext: {{- include "hardy.containerSecurity" $root | nindent 6 }}
    volumeMounts:
      {{- include "hardy.mounts" $root | nindent 6 }}
      - name: shm
        mountPath: /dev/shm
volumes:
  {{- include "hardy.volumes" (list $root $worker.scratch) | nindent 2 }}
  - name: shm
    emptyDir:
      medium: Memory
      sizeLimit: {{ $worker.shm }}
{{- with $worker.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $worker.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or $worker.gpu.enabled $worker.tolerations }}
tolerations:
  {{- if $worker.gpu.enabled }}
  - key: {{ $worker.gpu.resource }}
    operator: Exists
    effect: NoSchedule
  {{- end }}
  {{- with $worker.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* KEDA's look at the queues of all priorities. Over HTTP, since AMQP does not tell unacknowledged messages. */}}
{{- define "hardy.trigger" -}}
- type: rabbitmq
  metadata:
    protocol: http
    {{- if .Values.rabbitmq.cluster.enabled }}
    host: http://{{ include "hardy.rabbitmq" . }}.{{ .Release.Namespace }}.svc:15672/
    vhostName: /
    {{- else }}
    host: {{ trimSuffix "/" (required "rabbitmq.managementUrl: KEDA reads the queues there" .Values.rabbitmq.managementUrl) }}/
    vhostName: {{ .Values.rabbitmq.vhost | quote }}
    {{- end }}
    queueName: {{ printf "^%s\\.tasks\\.(high|normal|low)$" (regexQuoteMeta (dig "queue" "prefix" "hardy" (.Values.config | default dict))) | squote }}
    useRegex: "true"
    operation: sum
    mode: QueueLength
    excludeUnacknowledged: "false"
    value: {{ include "hardy.tasksPerReplica" . | quote }}
  authenticationRef:
    name: {{ include "hardy.fullname" . }}-rabbitmq
{{- end }}
