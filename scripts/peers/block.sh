#!/bin/sh
# One block on one thread: PyTorch, eager and compiled, and this system in turn; prints one Markdown table.
#
#   PYTHON=~/peer/bin/python scripts/peers/block.sh [TURNS]     default 3, of 9 rounds each
#
# Settings: WIDTHS (default "256 512 1024"), MKL_KERNELS (mkl.py). Exit codes: 64 usage; 69 something is missing; else that of what failed.
set -eu

. "$(dirname "$0")/common.sh"
[ $# -le 1 ] && is_number "${1:-3}" || fail 64 "usage: block.sh [TURNS]"
widths=${WIDTHS:-256 512 1024}
for width in $widths; do
  is_number "$width" && [ $((width % 64)) = 0 ] || fail 64 "WIDTHS has \"$width\"; wanted multiples of 64"
done
need_python
need_build
turn=0
while [ $turn -lt "${1:-3}" ]; do
  turn=$((turn + 1))
  for width in $widths; do
    say "turn $turn: D = $width"
    options="--width $width --heads $((width / 64)) --rounds 9"
    run "$results/eager-$width-$turn.json" "$python" "$here/block.py" $options
    run "$results/ours-$width-$turn.json" node "$root/dist/cli/main.js" bench block $options --json
    run "$results/compiled-$width-$turn.json" "$python" "$here/block.py" $options --compile
  done
done
say ""
node "$here/table.mjs" block "$results"
