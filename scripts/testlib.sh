# shellcheck shell=bash
# What make test and make t share. Sourced, in the root of the repository.

NEXTEST_VERSION=0.9.148

need() {
  command -v "$1" >/dev/null || { echo "$1 is missing; install $2 and try again" >&2; exit 1; }
}

# cargo-nextest from crates.io into target/tools, unless some version that .config/nextest.toml is content with is there. It is compiled for
# a short build: what it does is to wait for tests. Fails where it can't be had.
install_nextest() {
  PATH=$PWD/target/tools/bin:$PATH
  export PATH
  has_nextest && return
  echo "make test: installing cargo-nextest $NEXTEST_VERSION into target/tools (once; some minutes)" >&2
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install cargo-nextest --locked --version "$NEXTEST_VERSION" \
    --no-default-features --features default-no-update --root target/tools --target-dir target/tools/build || return
  rm -rf target/tools/build
}
has_nextest() { cargo nextest show-config version >/dev/null 2>&1; }

# start_plane FOLDER: a control plane for all tests, and where further ones go that tests share by name.
start_plane() {
  local folder=$1 pid
  # In a session of its own, so that Ctrl-C reaches the tests first and a warm one outlives this script.
  setsid target/debug/landfall dev --no-operator --ephemeral --ready-file "$folder/main.ready" \
    </dev/null >"$folder/main.log" 2>&1 &
  pid=$!
  echo "$pid" >"$folder/main.pid"
  for _ in $(seq 18000); do
    [ -s "$folder/main.ready" ] && break
    kill -0 "$pid" 2>/dev/null || { cat "$folder/main.log" >&2; exit 1; }
    sleep 0.1
  done
  [ -s "$folder/main.ready" ] || { cat "$folder/main.log" >&2; echo "no control plane after 30 minutes" >&2; exit 1; }
  use_planes "$folder"
}

use_planes() {
  LANDFALL_TEST_KUBECONFIG=$(cat "$1/main.ready")
  LANDFALL_TEST_PLANES=$1
  export LANDFALL_TEST_KUBECONFIG LANDFALL_TEST_PLANES
}

# Ends what the pid files of a folder name, and waits until it has ended.
stop_planes() {
  local file pid
  for file in "$1"/*.pid; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    # The number may be somebody else's by now.
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'landfall dev ' || continue
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 300); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
}

# "PASSED FAILED" of nextest's report of a profile; where there is none, nothing passed.
counts() {
  local head file=target/nextest/$1/junit.xml
  head=$(grep -m1 '<testsuites ' "$file" 2>/dev/null) || { echo "0 1"; return; }
  of() { sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p" <<<"$head"; }
  local failed=$(($(of failures) + $(of errors)))
  echo "$(($(of tests) - $(of skipped) - failed)) $failed"
}

# The same of what cargo test printed.
counts_of_cargo() { awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$1"; }

# The tests that are left out, with their reasons, as the source has them.
not_run() {
  grep -rn --include='*.rs' -A3 '#\[ignore' tests src core |
    sed -n 's/.*#\[ignore = "\(.*\)"\].*/\1/p; s/.*fn \([a-z0-9_]*\)(.*/\1/p' | paste -d: - - | sed 's/\(.*\):\(.*\)/  \2: \1/'
}
