#!/bin/bash
# Everything that a cluster with vLLM needs and that takes minutes to make: Kubernetes from source, and the Python
# environment of vLLM, at the same time (one keeps the processor busy, the other the network).
set -euo pipefail
sandbox=$(cd "$(dirname "$0")" && pwd)
"$sandbox/build-kube.sh" >/dev/null &
kube=$!
"$sandbox/ml-env.sh" >/dev/null &
ml=$!
trap 'kill $kube $ml 2>/dev/null; exit 130' INT TERM
failed=0
wait $kube || failed=1
wait $ml || failed=1
exit $failed
