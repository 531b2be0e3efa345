# Sourced by kube-up.sh (outside) and node.sh (inside): addresses, names, and starting programs.
DEFAULT_RUN=/tmp/adapterrelease-sandbox-$(id -u)
RUN=$(realpath --no-symlinks --canonicalize-missing "${KUBE_RUN:-$DEFAULT_RUN}")
STORE=$(realpath --canonicalize-missing "${KUBE_STORE:-$RUN/store}")
export KUBE_RUN=$RUN KUBE_STORE=$STORE
if [ "${2:-}" = --no-node ]; then PORT=${KUBE_PORT:-16443}; else PORT=6443; fi

NODE_NAME=node1
NODE_STORE=/var/lib/adapterrelease/store
DNS_IP=169.254.20.10
CGROUP=adapterrelease-sandbox-$(sha256sum <<<"$RUN" | cut -c1-8)

# Clusters with a node that are up at once differ in this number: it is in every address and name on the host.
ASKED_NETWORK=${KUBE_NETWORK:-}
use_network() { # NUMBER
  export KUBE_NETWORK=$1
  HOST_IP=10.200.$1.1 NODE_IP=10.200.$1.2 # the two ends of the veth pair
  SERVICE_NET=10.$((96 + $1)).0.0/16 API_SERVICE_IP=10.$((96 + $1)).0.1
  POD_NET=10.244.$1.0/24
  LINK=adaptrel$1
}
use_network "${ASKED_NETWORK:-$(cat "$RUN/network" 2>/dev/null || echo 0)}"
CONTAINERD=/run/containerd/containerd.sock

# Every program of a cluster carries this in its environment: how `down` finds them, whatever happened to us.
MARK=ADAPTERRELEASE_SANDBOX_RUN=$RUN

START=$SECONDS
say() { echo "  $((SECONDS - START)) s: $*" >&2; }
refuse() { echo "sandbox: $*" >&2; exit 1; }

wait_until() { # SECONDS WHAT CMD...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until ("$@") >/dev/null 2>&1; do # in a shell of its own: a trap that is run meanwhile must be heard
    [ $SECONDS -lt $end ] || refuse "gave up waiting for $what"
    sleep 0.1
  done
}

# Start a program that stays; it is started again when it ends. Log in RUN/log.
start_daemon() { # NAME CMD...
  local name=$1
  shift
  setsid env "$MARK" bash "$NODE_SCRIPTS/keep-running.sh" "$@" >"$RUN/log/$name.log" 2>&1 </dev/null 9>&- &
  disown # or the shell would report its end
}

kubectl() { "$KUBE_DIR/kubectl" --kubeconfig "$RUN/kubeconfig" --request-timeout 10s "$@"; }
api_is_ready() { kubectl get --raw /readyz >/dev/null 2>&1; }
node_is_ready() {
  kubectl get node "$NODE_NAME" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null | grep -q True
}
