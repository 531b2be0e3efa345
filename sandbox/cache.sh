# Sourced by the scripts here: where what is slow to make is kept (outside the checkout), and progress.
SANDBOX=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHECKOUT=$(dirname "$SANDBOX")
CACHE=${ADAPTERRELEASE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adapter-release-controller}

# Twelve hex digits of names and contents of files.
digest_of() { # FILE...
  for file in "$@"; do
    basename "$file"
    cat "$file"
  done | sha256sum | cut -c1-12
}

# Hold a lock on a directory until this script ends. Programs it starts to stay must close file 9.
lock() { # DIRECTORY
  mkdir -p "$1"
  exec 9<"$1"
  flock --nonblock 9 || { echo "waiting for another run of this in $1 ..." >&2; flock 9; }
}

# Run a command with its output in a log; every 15 s a line says how far it is.
with_progress() { # TITLE LOG COMMAND...
  local title=$1 log=$2 start=$SECONDS pid
  shift 2
  echo "$title ..." >&2
  "$@" >"$log" 2>&1 &
  pid=$!
  trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
  until timeout --foreground 15 tail --pid="$pid" --sleep-interval=0.2 -f /dev/null; do
    echo "  $((SECONDS - start)) s: $(progress_of "$log")" >&2
  done
  trap - INT TERM
  if ! wait "$pid"; then
    tail -n 25 "$log" >&2
    echo "$title: failed; the whole output is in $log" >&2
    return 1
  fi
  echo "$title: done in $((SECONDS - start)) s" >&2
}

# How far a log says its command is; a script may define its own.
progress_of() { tail -n 1 "$1" | tr -d '\r' | cut -c1-100; } # LOG
