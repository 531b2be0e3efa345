# Sourced by kube-up.sh: what a cluster needs of the host, what it makes on the host, and how that goes away.

require_node() {
  [ "$(id -u)" = 0 ] || refuse "a node needs root (without: up --no-node)"
  "$SANDBOX/host-packages.sh"
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || refuse "this kernel has no overlayfs"
  unshare --net --mount --pid --ipc --uts --cgroup --fork --mount-proc true 2>/dev/null ||
    refuse "this kernel, or the container around us, does not allow new namespaces (net, mount, pid, ipc, uts, cgroup)"
  unshare --net nft add table ip probe 2>/dev/null || refuse "this kernel has no nftables"
  unshare --net sh -c 'ip link add probe0 type veth peer name probe1' 2>/dev/null || refuse "this kernel has no veth links"
}

# Who has our addresses already; nothing when they are free.
network_user() {
  local net
  for net in "$SERVICE_NET" "$POD_NET" "$HOST_IP/30"; do
    { ip -4 -o route show table main root "$net"; ip -4 -o route show table main match "$net"; } | grep -v '^default' || true
  done
  ip -o link show "$LINK" 2>/dev/null || true
}

choose_network() {
  local number
  if [ -n "$ASKED_NETWORK" ]; then
    [ -z "$(network_user)" ] || refuse "network $ASKED_NETWORK is in use on this machine ($(network_user | head -n 1))"
    return
  fi
  for number in {0..99}; do
    use_network "$number"
    [ -n "$(network_user)" ] || return 0
  done
  refuse "10.96.0.0/16 to 10.195.0.0/16 are all in use on this machine"
}

require_free_port() {
  local _
  for _ in $(seq 50); do # a process that was killed closes its sockets a moment after it can no longer be seen
    (: <"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || return 0
    sleep 0.1
  done
  refuse "port $PORT is in use: set KUBE_PORT"
}

# The run directory is ours, or nothing happens to it.
require_own_run_dir() {
  [ -e "$RUN" ] || [ -L "$RUN" ] || return 0
  if [ -L "$RUN" ] || [ ! -O "$RUN" ] || [ ! -e "$RUN/.adapterrelease-sandbox" ]; then
    refuse "$RUN was not made by the sandbox: remove it, or set KUBE_RUN"
  fi
}

make_run_dir() {
  # The mark comes with the directory in one rename: a crash never leaves a directory that is nobody's.
  local unmarked
  mkdir -p "$(dirname "$RUN")"
  unmarked=$(mktemp -d "$RUN.XXXXXX")
  touch "$unmarked/.adapterrelease-sandbox"
  mkdir "$unmarked/log" "$unmarked/conf" "$unmarked/store"
  mv --no-target-directory "$unmarked" "$RUN"
  if [ "$(id -u)" = 0 ]; then chown 1000:1000 "$RUN/store"; fi
}

# Cgroup directories of ours, one a line: below our own in v1 (a limit that we are under goes on holding), at the
# top in v2 (a group that holds processes cannot hand controllers down).
cgroup_dirs() {
  local controllers path
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$CGROUP"
    return
  fi
  while IFS=: read -r _ controllers path; do
    controllers=${controllers#name=}
    [ -z "$controllers" ] || [ ! -d "/sys/fs/cgroup/$controllers$path" ] || echo "/sys/fs/cgroup/$controllers${path%/}/$CGROUP"
  done </proc/self/cgroup
}

make_cgroups() {
  local dir file
  cgroup_dirs >"$RUN/cgroups"
  while read -r dir; do
    mkdir -p "$dir"
    case $dir in */cpuset/*)
      for file in cpuset.cpus cpuset.mems; do cat "${dir%/*}/$file" >"$dir/$file"; done
      echo 1 >"$dir/cgroup.clone_children"
      ;;
    esac
  done <"$RUN/cgroups"
}

remove_cgroups() {
  local dirs dir _
  dirs=$({ cat "$RUN/cgroups" 2>/dev/null || true; cgroup_dirs; } | sort -u)
  for dir in $dirs; do
    [[ $dir == /sys/fs/cgroup/*adapterrelease-sandbox* ]] || continue
    # An ended process leaves its group a moment later.
    for _ in $(seq 50); do
      [ -d "$dir" ] || break
      find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ ! -d "$dir" ] || sleep 0.1
    done
    if [ -d "$dir" ] && [ -e "$RUN/cgroups" ]; then echo "sandbox: $dir could not be removed" >&2; fi
  done
}

start_namespaces() {
  (
    while read -r dir; do echo $BASHPID >"$dir/cgroup.procs"; done <"$RUN/cgroups"
    exec setsid env "$MARK" unshare --net --mount --pid --ipc --uts --cgroup --fork --kill-child --mount-proc \
      bash "$NODE_SCRIPTS/node.sh"
  ) >"$RUN/log/node.log" 2>&1 </dev/null 9>&- &
  OUTER=$!
  echo "$OUTER" >"$RUN/outer.pid"
}

has_own_network() {
  local theirs
  theirs=$(readlink "/proc/$OUTER/ns/net") && [ "$theirs" != "$(readlink /proc/self/ns/net)" ]
}

join_network() {
  wait_until 10 "the node's namespaces" has_own_network
  ip link add "$LINK" type veth peer name eth0 netns "$OUTER"
  ip link set "$LINK" alias "$RUN"
  ip addr add "$HOST_IP/30" dev "$LINK"
  ip link set "$LINK" up
  nsenter --target "$OUTER" --net sh -ec "
    ip addr add $NODE_IP/30 dev eth0
    echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects
    ip link set eth0 up
    ip route add default via $HOST_IP"
  ip route add "$SERVICE_NET" via "$NODE_IP"
  ip route add "$POD_NET" via "$NODE_IP"
}

# The link goes with the namespaces, and its routes with the link; deleting it is only quicker.
remove_link() {
  local _
  if [ "$(cat "/sys/class/net/$LINK/ifalias" 2>/dev/null)" = "$RUN" ]; then
    ip link delete "$LINK" 2>/dev/null || true
    for _ in $(seq 50); do [ -e "/sys/class/net/$LINK" ] || return 0; sleep 0.1; done
    echo "sandbox: the link $LINK could not be removed" >&2
  fi
}

marked_processes() {
  grep -lzxF "$MARK" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true
}

# Nothing of a cluster is worth an orderly end. Again and again: a program may just be starting another.
end_processes() {
  local pids _
  for _ in $(seq 100); do
    pids=$(marked_processes)
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086 # one word a process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.05
  done
  refuse "these processes cannot be ended: $pids"
}
