#!/usr/bin/env bash
# make bench: installs the tools that landfall is measured beside, builds landfall for release, and measures. Arguments go to bench.py.
set -euo pipefail
cd "$(dirname "$0")/.."

need() { command -v "$1" >/dev/null || { echo "make bench: $1 is missing; install $2 and try again" >&2; exit 1; }; }
need cargo "Rust 1.89 or newer"
need go "Go 1.26 or newer (it builds the Kubernetes control plane)"
need rsync "rsync"
need python3 "Python 3.10 or newer with venv"
scripts/install-test-tools.sh

venv=target/bench/venv
if [ ! -x "$venv/bin/ansible" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q -r bench/requirements.txt
fi
cargo build --locked --release
cargo build --locked --release --features bench --example fleet
export BENCH_VENV=$PWD/$venv
exec "$venv/bin/python" bench/bench.py --landfall target/release/landfall --fleet target/release/examples/fleet --output target/bench "$@"
