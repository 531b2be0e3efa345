#!/bin/bash
# Everything that a cluster with vLLM needs and that takes minutes to make: Kubernetes from source, and the Python
# environment of vLLM, at the same time (one keeps the processor busy, the other the network).
set -euo pipefail
. "$(dirname "$0")/cache.sh"
trap 'end_jobs; exit 130' INT TERM
set -m
"$SANDBOX/build-kube.sh" >/dev/null </dev/null &
kube=$!
"$SANDBOX/ml-env.sh" >/dev/null </dev/null &
ml=$!
set +m
failed=0
wait $kube || failed=1
wait $ml || failed=1
exit $failed
