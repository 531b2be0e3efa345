#!/bin/bash
# The Gateway API's CRDs (standard channel) of the version that the sandbox's Traefik implements, from the Go module
# proxy into the cache. Prints their directory. There already: nothing to do. Cold: seconds.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../cache.sh"

GATEWAY_API=v1.4.0 GATEWAY_API_SUM=h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=
CRDS=$CACHE/gateway-crds-$(digest_of "$0")

make() { # DIRECTORY
  export GOTOOLCHAIN=local GOWORK=off GOFLAGS=
  local module
  cd "$1" # outside of any module: the sum is checked here
  module=$(go mod download -json "sigs.k8s.io/gateway-api@$GATEWAY_API")
  grep -q "\"Sum\": \"$GATEWAY_API_SUM\"" <<<"$module" || { echo "not what it was: $module"; return 1; }
  cp "$(sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p' <<<"$module")"/config/crd/standard/*.yaml .
  chmod u=rw,go=r -- *.yaml
}

if [ ! -e "$CRDS" ]; then
  lock "$CACHE/locks/gateway-crds"
fi
if [ ! -e "$CRDS" ]; then
  command -v go >/dev/null || { echo "Go is not installed (1.25 or newer is needed)" >&2; exit 1; }
  rm -rf "$CRDS.unfinished"
  mkdir -p "$CRDS.unfinished"
  with_progress "fetching the Gateway API's CRDs" "$CACHE/gateway-crds.log" make "$CRDS.unfinished"
  mv "$CRDS.unfinished" "$CRDS"
fi
echo "$CRDS"
