#!/bin/bash
# Fill a directory as a store (see sandbox/models/store.py). Default: the running sandbox's.
#   store.sh [DIRECTORY] [--only base|v1|adapters] [--fresh]
set -euo pipefail
. "$(dirname "$0")/cache.sh"
case ${1:-} in
  -* | '') store=$("$SANDBOX/node/kube-up.sh" store) ;;
  *) store=$(realpath --canonicalize-missing "$1"); shift ;;
esac
python=$("$SANDBOX/ml-env.sh")/bin/python
mkdir -p "$store"
cd "$CHECKOUT"
exec "$python" -m sandbox.models "$store" "$@"
