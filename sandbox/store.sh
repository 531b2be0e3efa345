#!/bin/bash
# Fill a store directory (default: that of the running sandbox) with the demo's models, data and adapters.
#   store.sh [DIRECTORY] [--fresh]
set -euo pipefail
. "$(dirname "$0")/cache.sh"
store=${KUBE_STORE:-${KUBE_RUN:-/tmp/adapterrelease-sandbox-$(id -u)}/store}
case ${1:-} in -* | '') ;; *) store=$1; shift ;; esac
ml_env=$("$SANDBOX/ml-env.sh")
mkdir -p "$store"
cd "$CHECKOUT"
exec "$ml_env/bin/python" -m sandbox.models store "$store" "$@"
