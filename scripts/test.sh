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
cargo build --locked --workspace
cargo test --locked --workspace --no-run

work=$(mktemp -d)
plane=
other=
watchers=()
# shellcheck disable=SC2317 # the trap calls it
finish() {
  [ ${#watchers[@]} = 0 ] || kill "${watchers[@]}" 2>/dev/null || true
  [ -z "$other" ] || kill "$other" 2>/dev/null || true
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

# The crash harness runs as many of its points as this allows; empty: all (make crashes).
export LANDFALL_CRASH_SECONDS=${LANDFALL_CRASH_SECONDS-120}
LANDFALL_TEST_KUBECONFIG=$(cat "$work/ready")
export LANDFALL_TEST_KUBECONFIG

# Every status that any test produces on the shared control plane is kept, and judged at the end.
kubectl=$(sed -n 's/^landfall dev: kubectl: //p' "$work/plane.log")
mkdir "$work/watched"
for plural in projects builds hostgroups deployments; do
  KUBECONFIG=$LANDFALL_TEST_KUBECONFIG "$kubectl" get --raw "/apis/landfall.dev/v1alpha1/$plural?watch=true&timeoutSeconds=7200" \
    >"$work/watched/$plural.jsonl" 2>"$work/watched/$plural.err" &
  watchers+=($!)
done

# Two lanes side by side: tests wait more than they compute. The first has those that mostly wait; what is not named there is in the second.
waiting=(control_plane:: hosts::network:: builds::retention:: hosts::claims:: hosts::helper::)
lane() { cargo test --locked --workspace --no-fail-fast "$@" --test-threads "${TEST_THREADS:-4}"; }

code=0
if [ $# = 0 ]; then
  skipped=()
  for name in "${waiting[@]}"; do skipped+=(--skip "$name"); done
  lane --test features -- "${waiting[@]}" >"$work/lane.log" 2>&1 &
  other=$!
  lane -- "${skipped[@]}" || code=$?
  wait "$other" || code=$?
  other=
  cat "$work/lane.log"
else
  lane "$@" -- || code=$?
fi

for watcher in "${watchers[@]}"; do
  kill -0 "$watcher" 2>/dev/null || { echo "make test: a watch of statuses ended too early:" >&2; cat "$work"/watched/*.err >&2; code=1; }
done
# A selection of tests may produce no status at all, so only the whole is judged.
if [ $# = 0 ]; then
  LANDFALL_WATCHED=$work/watched cargo test --locked --test features kstatus::judged -- --nocapture || code=$?
fi
exit "$code"
