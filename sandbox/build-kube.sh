#!/bin/bash
# Kubernetes in one binary (see kube/main.go) and the pause program, built from the Go module proxy into the
# cache. Prints their directory. There already: nothing to do. Cold: 8 minutes of two cores.
set -euo pipefail
. "$(dirname "$0")/cache.sh"

VERSION=v1.34.4
SOURCES=("$SANDBOX"/kube/go.mod "$SANDBOX"/kube/go.sum "$SANDBOX"/kube/*.go "$SANDBOX"/kube/pause/*.go "$0")
KUBE_DIR=$CACHE/kube-$(digest_of "${SOURCES[@]}")

progress_of() { # LOG
  echo "$(grep -c '^go: downloading' "$1") modules downloaded, $(grep -vc '^go: ' "$1") of about 2800 packages compiled"
}

# The version goes in by linker flags: without them clients see v0.0.0-master.
version_flags() {
  local package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s ' "$package.gitVersion=$VERSION" "$package.gitMajor=1" "$package.gitMinor=34" \
      "$package.gitTreeState=archive" "$package.buildDate=1970-01-01T00:00:00Z" "$package.gitCommit="
  done
}

build() { # DIRECTORY
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=
  cd "$SANDBOX/kube"
  go build -v -buildvcs=false -trimpath -tags grpcnotrace,notest -ldflags "-s -w $(version_flags)" -o "$1/kube" .
  go build -v -buildvcs=false -trimpath -ldflags "-s -w" -o "$1/pause" ./pause
  ln -s kube "$1/kubectl"
}

main() {
  if [ ! -e "$KUBE_DIR" ]; then
    lock "$CACHE/locks/kube"
  fi
  if [ ! -e "$KUBE_DIR" ]; then
    command -v go >/dev/null || { echo "Go is not installed (1.24 or newer is needed)" >&2; exit 1; }
    local unfinished=$KUBE_DIR.unfinished
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    with_progress "building Kubernetes $VERSION (8 minutes when cold)" "$CACHE/kube.log" build "$unfinished"
    mv "$unfinished" "$KUBE_DIR"
  fi
  echo "$KUBE_DIR"
}
main
