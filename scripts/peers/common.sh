# What compare.sh and block.sh have in common; read by them, not run.

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
results=
child=

fail() { # fail CODE MESSAGE
  echo "$(basename "$0"): $2" >&2
  exit "$1"
}

is_number() { # a whole one above zero
  case $1 in '' | 0* | *[!0-9]*) return 1 ;; esac
}

say() { # progress, for whoever watches
  [ ! -t 2 ] || printf '\r\033[K%s' "$1" >&2
}

need_python() {
  "$python" -c 'import torch, torch.distributed' 2>/dev/null ||
    fail 69 "PYTHON (\"$python\") has no PyTorch; wanted a python with scripts/peers/requirements.txt"
}

need_build() {
  [ -f "$root/dist/cli/main.js" ] || fail 69 "dist/cli/main.js is missing; run: npm run build"
}

# What was started ends with this script: hosts.sh then removes its namespaces.
stop() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$child" ] && kill "$child" 2>/dev/null; then
    for host in 1 2; do
      [ -z "${HOSTS_NAME:-}" ] || for pid in $(ip netns pids "$HOSTS_NAME-$host" 2>/dev/null); do
        kill "$pid" 2>/dev/null || true
      done
    done
    wait "$child" || true
  fi
  [ -z "$results" ] || rm -rf "$results"
  exit $status
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
results=$(mktemp -d)

run() { # run FILE COMMAND...: its output into FILE; what went wrong is shown
  file=$1
  shift
  "$@" >"$file" 2>"$results/errors" &
  child=$!
  code=0
  wait "$child" || code=$?
  child=
  [ $code = 0 ] || {
    say ""
    # What mpirun says about it comes after a rule.
    sed '/^-----/,$d' "$results/errors" >"$results/said"
    [ -s "$results/said" ] || cp "$results/errors" "$results/said"
    tail -n 20 "$results/said" >&2
    exit $code
  }
}
