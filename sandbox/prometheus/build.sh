#!/bin/bash
# Prometheus and promtool, built from the Go module proxy into the cache. Prints their directory. There already: nothing
# to do. Nothing but tests and `make pictures` asks for it. Cold: 10 minutes of one core.
#
# Of the ways to discover targets only files, HTTP and Kubernetes are built in; the pages of its web interface are not.
# To take another version: put it in go.mod's `require`, copy Prometheus's own `require` lines as indirect ones and its
# go.sum, with the two sums of the module itself added.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../cache.sh"

PROMETHEUS=$(sed -n 's,^\tgithub.com/prometheus/prometheus \(v[0-9.]*\) .*,\1,p' "$HERE/go.mod")
PROMETHEUS_DIR=$CACHE/prometheus-$(digest_of "$HERE"/go.mod "$HERE"/go.sum "$0")

progress_of() { # LOG
  echo "$(grep -c '^go: downloading' "$1") modules downloaded, $(grep -vc '^go: ' "$1") of about 1000 packages compiled"
}

build() { # DIRECTORY
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=
  local version=github.com/prometheus/common/version
  cd "$1"
  mkdir source
  cp "$HERE/go.mod" "$HERE/go.sum" source/
  cd source
  go build -v -buildvcs=false -trimpath -tags remove_all_sd,enable_kubernetes_sd -ldflags "-s -w -X $version.Version=${PROMETHEUS#v}" \
    -o .. github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool
  cd ..
  rm -rf source
}

make_once "$PROMETHEUS_DIR" prometheus go "Go is not installed (1.26.7 or newer is needed)" \
  "building Prometheus $PROMETHEUS (10 minutes of one core when cold)"
echo "$PROMETHEUS_DIR"
