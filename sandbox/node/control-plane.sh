# Sourced by kube-up.sh and node.sh: etcd, API server, controller manager, scheduler.
# Only the API server listens on a port that others reach; without a node they share the host's network, so etcd
# (which knows no authentication) listens on a socket in the run directory, and the others on nothing.

start_control_plane() { # ADVERTISED BIND
  start_daemon etcd "$KUBE_DIR/kube" etcd --data-dir "$RUN/etcd" --listen "unix://$RUN/etcd.sock" --peer "unix://$RUN/peer.sock"
  start_daemon apiserver "$KUBE_DIR/kube" apiserver \
    --etcd-servers="unix://$RUN/etcd.sock" --bind-address="$2" --secure-port="$PORT" \
    --advertise-address="$1" --service-cluster-ip-range=$SERVICE_NET \
    --tls-cert-file="$RUN/pki/api.crt" --tls-private-key-file="$RUN/pki/api.key" \
    --client-ca-file="$RUN/pki/ca.crt" --token-auth-file="$RUN/pki/tokens.csv" \
    --kubelet-certificate-authority= --kubelet-client-certificate="$RUN/pki/api.crt" \
    --kubelet-client-key="$RUN/pki/api.key" --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$RUN/pki/sa.key" --service-account-signing-key-file="$RUN/pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --profiling=false
  wait_until 120 "the API server" api_is_ready
  say "etcd and the API server answer"
  # Claims are bound at once, not after 15 s; a dead node is seen after 20 s, not 40.
  start_daemon controller-manager "$KUBE_DIR/kube" controller-manager --kubeconfig="$RUN/conf/controller-manager" \
    --leader-elect=false --use-service-account-credentials=true --secure-port=0 --profiling=false \
    --service-account-private-key-file="$RUN/pki/sa.key" --root-ca-file="$RUN/pki/ca.crt" \
    --flex-volume-plugin-dir="$RUN/volume-plugins" \
    --pvclaimbinder-sync-period=1s --node-monitor-grace-period=20s --node-monitor-period=2s
  start_daemon scheduler "$KUBE_DIR/kube" scheduler --kubeconfig="$RUN/conf/scheduler" \
    --leader-elect=false --secure-port=0 --profiling=false
}
