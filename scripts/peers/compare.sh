#!/bin/sh
# PyTorch over Gloo and this system on two pretend hosts with the same link, in turn; prints one Markdown table. Needs root,
# iproute2, OpenMPI, a build with MPI (npm run build, npm run build:mpi), and a python with requirements.txt, which PYTHON names.
#
#   PYTHON=~/peer/bin/python scripts/peers/compare.sh RATE [ROUNDS]     RATE like 110mbit; ROUNDS of each case, default 9
#
# Settings: MODES (default forward,train,step), VOCAB (8192), MICRO_BATCHES (4), WIRE_GRADIENTS (f32 or bf16), PER_RUN (3: rounds that one
# takes before it is the other's turn), SIZES (more options that both know: "--width 128"); of PyTorch alone EXCHANGE (pairs or
# all-to-all: how rows travel) and MKL_KERNELS (mkl.py).
# Exit codes: 64 usage; 69 something is missing; 77 not permitted here; else that of what failed.
set -eu

. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] && [ $# -le 2 ] || fail 64 "usage: compare.sh RATE [ROUNDS]"
rate=$1
rounds=${2:-9}
modes=${MODES:-forward,train,step}
per_run=${PER_RUN:-3}
is_number "${rate%[kmg]bit}" || fail 64 "RATE is \"$rate\"; wanted one like 110mbit"
[ "$rate" != "${rate%bit}" ] || fail 64 "RATE is \"$rate\"; wanted one like 110mbit"
is_number "$rounds" || fail 64 "ROUNDS is \"$rounds\"; wanted a number"
is_number "$per_run" || fail 64 "PER_RUN is \"$per_run\"; wanted a number"
for word in $(echo "$modes" | tr , ' '); do
  case $word in
  forward | train) ;;
  step) stepping="--micro-batches ${MICRO_BATCHES:-4} --wire-gradients ${WIRE_GRADIENTS:-f32}" ;;
  *) fail 64 "MODES has \"$word\"; wanted forward, train, step" ;;
  esac
done
need_python
need_build

HOSTS_NAME=peers$$
HOSTS_NET=${HOSTS_NET:-10.83.0}
export HOSTS_NAME HOSTS_NET
options="--modes $modes --vocab ${VOCAB:-8192} ${stepping:-} ${SIZES:-}"

# Options are words, so they are not quoted.
peer() { # peer ROUNDS FILE
  run "$2" "$root/scripts/hosts.sh" 2 "$rate" env GLOO_SOCKET_IFNAME=eth0 MASTER_ADDR="$HOSTS_NET.1" \
    MKL_KERNELS="${MKL_KERNELS:-}" "$python" "$here/expert_parallel.py" $options --rounds "$1" --exchange "${EXCHANGE:-pairs}"
}

ours() {
  run "$2" "$root/scripts/hosts.sh" 2 "$rate" node "$root/dist/cli/main.js" bench compare $options --rounds "$1" --json \
    --archs "top2:sequential shared:sequential scmoe-pos2:adaptive scmoe-pos3:adaptive"
}

turn=0
while [ "$rounds" -gt 0 ]; do
  turn=$((turn + 1))
  count=$((rounds < per_run ? rounds : per_run))
  rounds=$((rounds - count))
  # There and back: what drifts meets both alike.
  case $((turn % 2)) in 1) order="peer ours" ;; *) order="ours peer" ;; esac
  for who in $order; do
    say "turn $turn: $who, $count rounds"
    $who "$count" "$results/$who-$turn.json"
  done
done
say ""
node "$here/table.mjs" compare "$results" "$rate"
