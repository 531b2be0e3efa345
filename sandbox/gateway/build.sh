#!/bin/bash
# Traefik, an implementation of the Gateway API, built from the Go module proxy into the cache. Prints its directory.
# There already: nothing to do. Nothing but install.sh asks for it. Cold: 9 minutes of one core.
#
# To take another version: put it in go.mod's `require`, copy Traefik's own `replace` and `exclude` lines, then build
# once as `build` does below with `go mod tidy` in front.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../cache.sh"

# The newest whose forked modules the proxy serves: 3.7 names one that it does not.
TRAEFIK=v3.6.12
LEGO=v4.33.0 LEGO_SUM=h1:2KrRKieG+VczT4zvVXKAY7Tp/S3XLvh/QImofBALRAM=
GATEWAY_DIR=$CACHE/gateway-$(digest_of "$HERE"/go.mod "$HERE"/go.sum "$HERE"/dns/none.go "$0")

progress_of() { # LOG
  echo "$(grep -c '^go: downloading' "$1") modules downloaded, $(grep -vc '^go: ' "$1") of about 1340 packages compiled"
}

module() { # MODULE FIELD
  go mod download -json "$1" | sed -n "s/^\t\"$2\": \"\(.*\)\",*$/\1/p"
}

# lego, which gets certificates by ACME, without the DNS providers (see dns/none.go). go.mod points there.
trimmed_lego() { # DIRECTORY
  local from part
  [ "$(module "github.com/go-acme/lego/v4@$LEGO" Sum)" = $LEGO_SUM ] || { echo "lego $LEGO is not what it was" >&2; return 1; }
  from=$(module "github.com/go-acme/lego/v4@$LEGO" Dir)
  mkdir -p "$1/providers"
  for part in go.mod LICENSE acme certcrypto certificate challenge lego log platform registration; do
    cp -r "$from/$part" "$1/"
  done
  chmod -R u+w "$1"
  find "$1" -name '*_test.go' -delete
  cp -r "$HERE/dns" "$1/providers/dns"
}

build() { # DIRECTORY
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=
  cd "$1"
  mkdir source
  cp "$HERE/go.mod" "$HERE/go.sum" source/
  cd source
  trimmed_lego lego
  go build -v -buildvcs=false -trimpath -ldflags "-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=${TRAEFIK#v}" \
    -o ../traefik github.com/traefik/traefik/v3/cmd/traefik
  cd ..
  rm -rf source
}

main() {
  if [ ! -e "$GATEWAY_DIR" ]; then
    lock "$CACHE/locks/gateway"
  fi
  if [ ! -e "$GATEWAY_DIR" ]; then
    command -v go >/dev/null || { echo "Go is not installed (1.25 or newer is needed)" >&2; exit 1; }
    local unfinished=$GATEWAY_DIR.unfinished
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    with_progress "building Traefik $TRAEFIK (9 minutes of one core when cold)" "$CACHE/gateway.log" build "$unfinished"
    mv "$unfinished" "$GATEWAY_DIR"
  fi
  echo "$GATEWAY_DIR"
}
main
