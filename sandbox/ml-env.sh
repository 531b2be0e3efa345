#!/bin/bash
# The Python environment that serves (vLLM for CPUs) and builds (torch, peft, llm-compressor), made from
# locks/ml.lock in the cache. Prints its directory. There already: nothing to do.
set -euo pipefail
. "$(dirname "$0")/cache.sh"

LOCK=$CHECKOUT/locks/ml.lock
ML_ENV=$CACHE/ml-$(digest_of "$LOCK" "$0")

# vLLM imports 20,000 files in each of its processes: compiled once, a server starts in half the time, and no
# container could write the compiled files. Some packages ship templates that are no Python: they may fail.
compile_once() {
  "$ML_ENV/bin/python" -m compileall -j 2 "$ML_ENV/lib" || true
}

# What vLLM finds out about a model's class takes a third of a server's start; it is found out once, where vLLM looks.
inspect_once() {
  local class="ModelRegistry.models['LlamaForCausalLM']"
  VLLM_CACHE_ROOT=$ML_ENV/vllm-cache "$ML_ENV/bin/python" -c \
    "from vllm.model_executor.models import ModelRegistry; $class.inspect_model_cls()"
  chmod -R u=rwX,go=rX "$ML_ENV/vllm-cache"
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
    with_progress "letting vLLM inspect the demo's model class" "$CACHE/ml-inspect.log" inspect_once
    touch "$ML_ENV/complete"
  fi
  echo "$ML_ENV"
}
main
