# Sourced by kube-up.sh: keys, tokens and configuration files of one cluster, all below the run directory.

# One CA, one certificate for the API server (as server, and as client of the kubelet), one key that signs tokens.
make_pki() {
  mkdir "$RUN/pki"
  (
    cd "$RUN/pki"
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
      -subj /CN=adapterrelease-sandbox-ca -keyout ca.key -out ca.crt
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
      -subj /O=system:masters/CN=kube-apiserver -keyout api.key -out api.csr
    openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out api.crt -extfile <(
      echo "subjectAltName=IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
      echo "extendedKeyUsage=serverAuth,clientAuth"
    )
    openssl ecparam -name prime256v1 -genkey -noout -out sa.key
    write_tokens >tokens.csv
  ) 2>"$RUN/log/openssl.log" || refuse "openssl failed: $(tail -n 3 "$RUN/log/openssl.log")"
}

write_tokens() { # token,user,uid,"group"
  local entry user group
  for entry in admin=system:masters system:kube-controller-manager= system:kube-scheduler= system:kube-proxy= \
    system:kube-dns=system:masters "system:node:$NODE_NAME=system:nodes"; do
    user=${entry%=*} group=${entry##*=}
    echo "$(openssl rand -hex 16),$user,$user${group:+,\"$group\"}"
  done
}

write_kubeconfig() { # USER SERVER FILE
  local token
  token=$(awk -F, -v user="$1" '$2 == user {print $1}' "$RUN/pki/tokens.csv")
  (umask 077 && cat >"$3") <<X
apiVersion: v1
kind: Config
clusters: [{name: adapterrelease-sandbox, cluster: {server: "$2", certificate-authority-data: $(base64 -w0 "$RUN/pki/ca.crt")}}]
users: [{name: "$1", user: {token: $token}}]
contexts: [{name: adapterrelease-sandbox, context: {cluster: adapterrelease-sandbox, user: "$1"}}]
current-context: adapterrelease-sandbox
X
}

write_kubeconfigs() { # URL-FROM-OUTSIDE URL-FROM-INSIDE
  write_kubeconfig admin "$1" "$RUN/kubeconfig"
  write_kubeconfig admin "$2" "$RUN/conf/admin"
  write_kubeconfig system:kube-controller-manager "$2" "$RUN/conf/controller-manager"
  write_kubeconfig system:kube-scheduler "$2" "$RUN/conf/scheduler"
  write_kubeconfig system:kube-proxy "$2" "$RUN/conf/kube-proxy"
  write_kubeconfig system:kube-dns "$2" "$RUN/conf/dns"
  write_kubeconfig "system:node:$NODE_NAME" "$2" "$RUN/conf/kubelet"
}

write_node_config() {
  write_kubelet_config >"$RUN/conf/kubelet.yaml"
  write_proxy_config >"$RUN/conf/proxy.yaml"
  write_containerd_config >"$RUN/conf/containerd.toml"
  write_corefile >"$RUN/conf/Corefile"
  mkdir "$RUN/conf/cni"
  write_cni_config >"$RUN/conf/cni/10-sandbox.conflist"
  : >"$RUN/conf/resolv.conf"
  # From the checkout's environment, since the containers are shown this Python and not another.
  local python=$CHECKOUT/.venv/bin/python
  [ -x "$python" ] || refuse "there is no $python: run 'make setup' first"
  cd "$CHECKOUT"
  "$python" -m sandbox.node.container_spec "$RUN/conf/base-spec.json" --checkout "$CHECKOUT" --ml-env "$ML_ENV"
  "$python" -m sandbox.node.images --out "$RUN/conf/images.tar" --pause "$KUBE_DIR/pause"
}

write_kubelet_config() {
  cat <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
containerRuntimeEndpoint: unix://$CONTAINERD
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: $RUN/conf/resolv.conf
podLogsDir: $RUN/podlogs
volumePluginDir: $RUN/volume-plugins
maxPods: 200
nodeStatusUpdateFrequency: 5s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
serializeImagePulls: false
oomScoreAdj: 0
X
}

write_proxy_config() {
  cat <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $RUN/conf/kube-proxy}
mode: nftables
clusterCIDR: $POD_NET
hostnameOverride: $NODE_NAME
oomScoreAdj: 0
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
X
}

write_cni_config() {
  cat <<X
{"cniVersion": "0.4.0", "name": "sandbox", "plugins": [
  {"type": "ptp", "mtu": 1500, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
            "ranges": [[{"subnet": "$POD_NET"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
}

write_containerd_config() {
  # restrict_oom_score_adj: a score cannot be lowered without CAP_SYS_RESOURCE, which a container around us may not have.
  cat <<X
version = 2
root = "$RUN/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$CONTAINERD"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "local/pause:1"
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/conf/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "$RUN/conf/base-spec.json"
X
}

write_corefile() {
  cat <<X
.:53 {
    bind $DNS_IP
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $RUN/conf/dns
        ttl 1
    }
}
X
}
