#!/usr/bin/env bash
# All tests, from nothing: what they need is installed, one control plane is started for all of them, and it is gone afterwards.
# Arguments go to cargo test. Exit code: that of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

need() {
  command -v "$1" >/dev/null || { echo "make test: $1 is missing; install $2 and try again" >&2; exit 1; }
}
need cargo "Rust 1.89 or newer"
need go "Go 1.26 or newer (it builds the Kubernetes control plane)"
scripts/install-test-tools.sh

echo "make test: building" >&2
cargo build --locked
cargo test --locked --no-run

work=$(mktemp -d)
plane=
finish() {
  if [ -n "$plane" ]; then
    kill "$plane" 2>/dev/null || true
    wait "$plane" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

echo "make test: starting a control plane (built from control-plane/ the first time: some minutes)" >&2
target/debug/landfall dev --no-operator --ephemeral --ready-file "$work/ready" >"$work/plane.log" 2>&1 &
plane=$!
for _ in $(seq 1800); do
  [ -s "$work/ready" ] && break
  kill -0 "$plane" 2>/dev/null || { cat "$work/plane.log" >&2; exit 1; }
  sleep 1
done
[ -s "$work/ready" ] || { cat "$work/plane.log" >&2; echo "make test: no control plane after 30 minutes" >&2; exit 1; }

LANDFALL_TEST_KUBECONFIG=$(cat "$work/ready")
export LANDFALL_TEST_KUBECONFIG
cargo test --locked --no-fail-fast "$@" -- --test-threads "${TEST_THREADS:-4}"
