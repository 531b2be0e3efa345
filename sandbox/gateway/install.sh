#!/bin/bash
# The Gateway API's CRDs, Traefik and a Gateway in namespace llm, in the sandbox's cluster (KUBE_RUN) that is up.
# Can be repeated. Prints nothing but what kubectl says; the Gateway's address: Service traefik in namespace gateway.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
GATEWAY_DIR=$("$HERE/build.sh")
CRDS=$("$HERE/crds.sh")
KUBECTL=$("$HERE/../build-kube.sh")/kubectl
KUBECONFIG=$("$HERE/../node/kube-up.sh" kubeconfig)
export KUBECONFIG

"$KUBECTL" apply --server-side --force-conflicts -f "$CRDS"
"$KUBECTL" wait --for=condition=Established --timeout=30s crd/{gatewayclasses,gateways,httproutes}.gateway.networking.k8s.io
"$KUBECTL" get namespace llm >/dev/null || "$KUBECTL" create namespace llm
sed "s|@GATEWAY_DIR@|$GATEWAY_DIR|" "$HERE/traefik.yaml" | "$KUBECTL" apply -f -
"$KUBECTL" -n gateway rollout status deployment/traefik --timeout=120s
"$KUBECTL" -n llm wait --for=condition=Programmed --timeout=60s gateway/gateway
