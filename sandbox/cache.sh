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

# Run a command with its output in a log; every 15 s a line says how far it is. It gets a process group of its own, and
# not the lock: what a background command starts ignores SIGINT, and after Ctrl-C went on and held the lock.
with_progress() { # TITLE LOG COMMAND...
  local title=$1 log=$2 start=$SECONDS command reporter failed=0
  shift 2
  echo "$title ..." >&2
  trap 'end_jobs; exit 130' INT TERM
  set -m
  "$@" >"$log" 2>&1 </dev/null 9>&- &
  command=$!
  report "$log" 9>&- &
  reporter=$!
  set +m
  wait "$command" || failed=1
  trap - INT TERM
  kill -- "-$reporter" 2>/dev/null || true
  wait "$reporter" || true
  if [ $failed = 1 ]; then
    tail -n 25 "$log" >&2
    echo "$title: failed; the whole output is in $log" >&2
    return 1
  fi
  echo "$title: done in $((SECONDS - start)) s" >&2
}

# The jobs that this shell has started under `set -m`, each with its whole process group.
end_jobs() {
  local job
  for job in $(jobs -p); do
    kill -- "-$job" 2>/dev/null || true
  done
  wait
}

report() { # LOG
  local start=$SECONDS
  while sleep 15; do
    echo "  $((SECONDS - start)) s: $(progress_of "$1")" >&2
  done
}

# How far a log says its command is; a script may define its own.
progress_of() { tail -n 1 "$1" | tr -d '\r' | cut -c1-100; } # LOG

# Make a directory of the cache, once: aside, and renamed when it is whole. The script's own `build` fills it.
make_once() { # DIRECTORY NAME PROGRAM PROGRAM-IN-WORDS TITLE
  local directory=$1 name=$2 program=$3 words=$4 title=$5 unfinished=$1.unfinished
  [ ! -e "$directory" ] || return 0
  lock "$CACHE/locks/$name"
  [ ! -e "$directory" ] || return 0
  command -v "$program" >/dev/null || { echo "$words" >&2; exit 1; }
  rm -rf "$unfinished"
  mkdir -p "$unfinished"
  with_progress "$title" "$CACHE/$name.log" build "$unfinished"
  mv "$unfinished" "$directory"
}
