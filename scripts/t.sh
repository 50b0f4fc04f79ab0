#!/usr/bin/env bash
# make t T=name: the tests whose name has this in it, against a control plane that stays up in the background until make t-down. It is
# started again when what it installs (CRDs, manifests) or its supervisor has changed. Arguments: NAME | --down |
# --which NAME, which only says what would be built.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/testlib.sh
. scripts/testlib.sh

# One for each checkout.
warm=/tmp/landfall-warm-$(id -u)-$(echo "$PWD" | cksum | cut -d' ' -f1)

if [ "${1:-}" = --down ]; then
  [ -d "$warm" ] || { echo "make t-down: nothing is up" >&2; exit 0; }
  stop_planes "$warm"
  rm -rf "$warm"
  exit 0
fi

which=
if [ "${1:-}" = --which ]; then
  which=yes
  shift
fi

name=${1:-}
[ -n "$name" ] || { echo "make t T=name: the tests whose name has this in it, such as T=a_host_lost or T=hosts::groups" >&2; exit 2; }
need cargo "Rust 1.89 or newer"
PATH=$PWD/target/tools/bin:$PATH
export PATH

# Only what has such a test is built: golden cases and planners without I/O need neither landfall nor a control plane.
# Names are compared as cargo compares them: module::inner_module::function, of functions with #[test] or #[tokio::test] only.
# shellcheck disable=SC2016 # the dollars are awk's
tests_of() {
  find "$1" -name '*.rs' -print0 | sort -z | xargs -0 awk -v root="$1/" '
    FNR == 1 {
      path = substr(FILENAME, length(root) + 1)
      sub(/\.rs$/, "", path)
      if (path ~ /^(main|lib)$/) path = ""
      sub(/(^|\/)mod$/, "", path)
      gsub("/", "::", path)
      inner = ""
      test = 0
    }
    match($0, /^ *mod [a-z0-9_]+ \{/) { inner = $2 }
    /^ *#\[(tokio::)?test[](]/ { test = 1 }
    test && match($0, /fn [a-z0-9_]+/) {
      name = substr($0, RSTART + 3, RLENGTH - 3)
      if ($0 ~ /^ / && inner != "") name = inner "::" name
      print path == "" ? name : path "::" name
      test = 0
    }'
}
cases_of() { find "$1" -name '*.yaml' -not -name '_*' -printf '%P\n' | sed 's|\.yaml$||; s|/|::|'; }
where=()
if cases_of core/tests/cases | grep -F -- "$name" >/dev/null; then where+=(cases); fi
if { tests_of core/src && tests_of core/tests; } | grep -F -- "$name" >/dev/null; then where+=(core); fi
for place in src tests/features tests/crashes; do
  if tests_of "$place" | grep -F -- "$name" >/dev/null; then where+=("${place#tests/}"); fi
done
case "${where[*]}" in
  cases) what=(-p landfall-core --test planners) ;;
  core | "cases core") what=(-p landfall-core) ;;
  src) what=(-p landfall --lib --bins) ;;
  features | crashes) what=(-p landfall --test "${where[0]}") ;;
  *) what=(--workspace) ;;
esac
if [ -n "$which" ]; then
  echo "${where[*]:-nothing} has tests of this name: cargo test ${what[*]} $name"
  exit 0
fi
plane=
case "${where[*]}" in *features* | *crashes* | '') plane=yes ;; esac

if [ -n "$plane" ]; then
  need go "Go 1.26 or newer (it builds the Kubernetes control plane)"
  scripts/install-test-tools.sh
  cargo build --locked -q
  fresh=$({
    target/debug/landfall crds
    find manifests src/runtime/dev -type f -print0 | sort -z | xargs -0 cat
  } | cksum)
  pid=$(cat "$warm/main.pid" 2>/dev/null || true)
  if [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null || [ "$(cat "$warm/fresh" 2>/dev/null)" != "$fresh" ]; then
    stop_planes "$warm"
    rm -rf "$warm"
    mkdir -m 700 "$warm"
    echo "make t: starting a control plane; it stays up until make t-down" >&2
    start_plane "$warm"
    echo "$fresh" >"$warm/fresh"
  else
    use_planes "$warm"
  fi
fi

if cargo nextest show-config version >/dev/null 2>&1; then
  exec cargo nextest run --locked "${what[@]}" --no-tests fail "$name"
fi
exec cargo test --locked -q "${what[@]}" "$name"
