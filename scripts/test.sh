#!/usr/bin/env bash
# All tests, from nothing: what they need is installed, one control plane is started for all of them, and it is gone afterwards.
# Arguments go to cargo nextest run (without it, to cargo test). With LANDFALL_NIGHT=1 what is exhaustive is run whole, not by samples (make night).
# The last line is "N passed, N failed". Exit code: that of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/testlib.sh
. scripts/testlib.sh
say() { echo "make test: $*" >&2; }

need cargo "Rust 1.89 or newer"
need go "Go 1.26 or newer (it builds the Kubernetes control plane)"
scripts/install-test-tools.sh
install_nextest ||
  say "cargo-nextest can't be had: cargo test runs the tests, ${TEST_THREADS:-4} at once, without the groups of .config/nextest.toml"

say "building"
cargo build --locked --workspace
cargo test --locked --workspace --no-run
# landfall-host as a release has it, and for the other machine; its tests build it themselves where this fails, and fail as it does.
scripts/build-host.sh x86_64 >/dev/null || :
scripts/build-host.sh aarch64 host-quick >/dev/null || :

# What is left to chance comes from this number, in the tests of ours and in those of proptest.
export LANDFALL_SEED=${LANDFALL_SEED:-$((RANDOM * 32768 + RANDOM))}
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$LANDFALL_SEED}
profile=${LANDFALL_PROFILE:-default}
if [ -n "${LANDFALL_NIGHT:-}" ]; then
  profile=night
  export LANDFALL_CRASH_SECONDS=${LANDFALL_CRASH_SECONDS-} PROPTEST_CASES=${PROPTEST_CASES:-4096}
  say "the whole night: every crash point, PROPTEST_CASES=$PROPTEST_CASES"
else
  # The crash harness runs a point before and after each kind of effect, and as many more as this allows; empty: all (make crashes).
  export LANDFALL_CRASH_SECONDS=${LANDFALL_CRASH_SECONDS-120}
fi
say "LANDFALL_SEED=$LANDFALL_SEED (the same again: LANDFALL_SEED=$LANDFALL_SEED make test)"

work=$(mktemp -d /tmp/landfall-test-XXXXXX)
watchers=()
# shellcheck disable=SC2317 # the trap calls it
finish() {
  [ ${#watchers[@]} = 0 ] || kill "${watchers[@]}" 2>/dev/null || true
  stop_planes "$work"
  rm -rf "$work"
}
trap finish EXIT

say "starting a control plane (built from control-plane/ the first time: some minutes)"
start_plane "$work"

# Every status that any test produces on the shared control plane is kept, and judged at the end.
kubectl=$(sed -n 's/^landfall dev: kubectl: //p' "$work/main.log")
mkdir "$work/watched"
for plural in projects builds hostgroups deployments; do
  KUBECONFIG=$LANDFALL_TEST_KUBECONFIG "$kubectl" get --raw "/apis/landfall.dev/v1alpha1/$plural?watch=true&timeoutSeconds=86400" \
    >"$work/watched/$plural.jsonl" 2>"$work/watched/$plural.err" &
  watchers+=($!)
done

code=0
if has_nextest; then
  rm -f "target/nextest/$profile/junit.xml"
  cargo nextest run --locked --workspace --profile "$profile" "$@" || code=$?
  read -r passed failed < <(counts "$profile")
else
  cargo test --locked --workspace --no-fail-fast "$@" -- --test-threads "${TEST_THREADS:-4}" 2>&1 | tee "$work/tests.log" || code=$?
  read -r passed failed < <(counts_of_cargo "$work/tests.log")
fi

for watcher in "${watchers[@]}"; do
  kill -0 "$watcher" 2>/dev/null && continue
  say "a watch of statuses ended too early:"
  cat "$work"/watched/*.err >&2
  code=1 failed=$((failed + 1))
done
# A selection of tests may produce no status at all, so only the whole is judged.
if [ $# = 0 ]; then
  if LANDFALL_WATCHED=$work/watched cargo test --locked --test features kstatus::judged -- --nocapture; then
    passed=$((passed + 1))
  else
    code=1 failed=$((failed + 1))
  fi
fi

say "not run:"
not_run >&2
say "LANDFALL_SEED=$LANDFALL_SEED, ${SECONDS} s"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] || [ "$code" != 0 ] || code=1
exit "$code"
