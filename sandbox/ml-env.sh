#!/bin/bash
# The Python environment that serves (vLLM for CPUs) and builds (torch, peft, llm-compressor), made from
# locks/ml.lock in the cache. Prints its directory. There already: nothing to do.
set -euo pipefail
. "$(dirname "$0")/cache.sh"

LOCK=$CHECKOUT/locks/ml.lock
ML_ENV=$CACHE/ml-$(digest_of "$LOCK")

# vLLM imports 20,000 files in each of its processes: compiled once, a server starts in half the time, and no
# container could write the compiled files. Some packages ship templates that are no Python: they may fail.
compile_once() {
  "$ML_ENV/bin/python" -m compileall -j 2 "$ML_ENV/lib" || true
}

main() {
  if [ ! -e "$ML_ENV/complete" ]; then
    lock "$CACHE/locks/ml"
  fi
  if [ ! -e "$ML_ENV/complete" ]; then
    local uv=$CHECKOUT/.venv/bin/uv
    [ -x "$uv" ] || { echo "there is no $uv: run 'make setup' first" >&2; exit 1; }
    # An environment cannot be moved once made, so it is made in place; the file `complete` comes last.
    rm -rf "$ML_ENV"
    "$uv" venv --quiet --no-config --python "$CHECKOUT/.venv/bin/python" "$ML_ENV"
    with_progress "installing torch, vLLM and llm-compressor (5 GB)" "$CACHE/ml.log" \
      "$uv" pip sync --python "$ML_ENV/bin/python" --require-hashes "$LOCK"
    with_progress "compiling them to byte code" "$CACHE/ml-compile.log" compile_once
    touch "$ML_ENV/complete"
  fi
  echo "$ML_ENV"
}
main
