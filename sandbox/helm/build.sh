#!/bin/bash
# Helm, built from the Go module proxy into the cache. Prints its directory. There already: nothing to do. Nothing but
# the chart's tests and a person who wants to run `make generate` asks for it.
#
# To take another version: `go get -tool helm.sh/helm/v4/cmd/helm@VERSION` there, put it here, and build once.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../cache.sh"

# The newest that Go 1.25 compiles, which the sandbox's gateway needs too; 4.2 needs 1.26.
HELM=v4.1.4
HELM_DIR=$CACHE/helm-$(digest_of "$HERE"/go.mod "$HERE"/go.sum "$0")

progress_of() { # LOG
  echo "$(grep -c '^go: downloading' "$1") modules downloaded, $(grep -vc '^go: ' "$1") of about 1010 packages compiled"
}

build() { # DIRECTORY
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=
  cd "$HERE"
  go build -v -buildvcs=false -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$HELM" \
    -o "$1/helm" helm.sh/helm/v4/cmd/helm
}

make_once "$HELM_DIR" helm go "Go is not installed (1.25 or newer is needed)" \
  "building Helm $HELM (some minutes when cold)"
echo "$HELM_DIR"
