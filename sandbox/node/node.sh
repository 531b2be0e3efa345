#!/bin/bash
# The first process in the node's namespaces (started by kube-up.sh, never by hand): mounts what a kubelet wants to
# see, starts the daemons, and then only reaps. Nothing here reaches the host: every mount and sysctl is our own.
set -euo pipefail
NODE_SCRIPTS=$(cd "$(dirname "$0")" && pwd)
. "$NODE_SCRIPTS/settings.sh"
. "$NODE_SCRIPTS/control-plane.sh"

kubectl() { "$KUBE_DIR/kubectl" --kubeconfig "$RUN/conf/admin" --request-timeout 10s "$@"; }

# Our own view of the cgroups: "/" is our directory in each controller.
mount_cgroups() {
  local controller
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup /sys/fs/cgroup
    # Only a group without processes of its own can hand controllers down.
    mkdir /sys/fs/cgroup/init
    echo $$ >/sys/fs/cgroup/init/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
    done
    return
  fi
  local controllers
  controllers=$(cd /sys/fs/cgroup && ls -d cpu cpuacct cpuset memory devices freezer blkio pids 2>/dev/null)
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controller in $controllers; do
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
  done
  mkdir /sys/fs/cgroup/systemd # the kubelet looks for it
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}

mount_directories() {
  mount -t tmpfs -o mode=755 run /run
  mkdir -p "$RUN/varlog" "$RUN/varlib/upper" "$RUN/varlib/work" /run/lock
  mount --bind "$RUN/varlog" /var/log
  # Whatever is written below /var/lib (device plugins, CNI results) lands in the run directory.
  mount -t overlay -o "lowerdir=/var/lib,upperdir=$RUN/varlib/upper,workdir=$RUN/varlib/work" overlay /var/lib
  mkdir -p "$NODE_STORE"
  mount --bind "$STORE" "$NODE_STORE"
}

# The kubelet insists on three sysctls of the whole machine: it is shown what it wants, and nothing changes.
show_sysctls() {
  echo 1 >/run/one
  echo 10 >/run/ten
  mount --bind /run/one /proc/sys/vm/overcommit_memory
  mount --bind /run/ten /proc/sys/kernel/panic
  mount --bind /run/one /proc/sys/kernel/panic_on_oops
}

set_up_network() {
  local file
  ip link set lo up
  ip addr add "$DNS_IP/32" dev lo
  echo 1 >/proc/sys/net/ipv4/ip_forward
  # A Service without endpoints must refuse at once: redirects would eat the budget of ICMP messages.
  for file in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >"$file"; done
  echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
}

start_node() {
  wait_until 60 containerd ctr -a "$CONTAINERD" version
  ctr -a "$CONTAINERD" -n k8s.io images import "$RUN/conf/images.tar" >"$RUN/log/images.log" 2>&1
  start_daemon kubelet "$KUBE_DIR/kube" kubelet --config="$RUN/conf/kubelet.yaml" --kubeconfig="$RUN/conf/kubelet" \
    --root-dir="$RUN/kubelet" --cert-dir="$RUN/kubelet/pki" --hostname-override="$NODE_NAME" --node-ip="$NODE_IP"
  start_daemon proxy "$KUBE_DIR/kube" proxy --config="$RUN/conf/proxy.yaml"
  start_daemon dns "$KUBE_DIR/kube" dns -conf "$RUN/conf/Corefile"
}

hostname "$NODE_NAME"
mount --make-rshared / # the kubelet's mount propagation wants it; shared among our own mounts only
mount_cgroups
mount_directories
show_sysctls
set_up_network
start_daemon containerd containerd --config "$RUN/conf/containerd.toml" --log-level warn
start_control_plane "$NODE_IP" 0.0.0.0
start_node
touch "$RUN/started"
while :; do
  sleep 3600 &
  wait $! || true # reaps orphans, too
done
