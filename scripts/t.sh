#!/usr/bin/env bash
# make t T=name: the tests whose name has this in it, against a control plane that stays up in the background until make t-down. It is
# started again when what it installs (CRDs, manifests) or its supervisor has changed. Arguments: NAME | --down
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

name=${1:-}
[ -n "$name" ] || { echo "make t T=name: the tests whose name has this in it, such as T=a_host_lost or T=hosts::groups" >&2; exit 2; }
need cargo "Rust 1.89 or newer"
PATH=$PWD/target/tools/bin:$PATH
export PATH

# Only what has such a test is built: golden cases and planners without I/O need neither landfall nor a control plane.
last=${name##*::} path=${name//::/\/} where=()
named() { grep -rqE "fn [a-z0-9_]*$last" "$@"; }
if [ -n "$(find core/tests/cases -name "*$last*.yaml" -not -name '_*')" ]; then where+=(cases); fi
if named core/src core/tests; then where+=(core); fi
if named src; then where+=(src); fi
if named tests/features || [ -d "tests/features/$path" ] || [ -f "tests/features/$path.rs" ]; then where+=(features); fi
if named tests/crashes; then where+=(crashes); fi
case "${where[*]}" in
  cases) what=(-p landfall-core --test planners) ;;
  core | "cases core") what=(-p landfall-core) ;;
  src) what=(-p landfall --lib --bins) ;;
  features | crashes) what=(-p landfall --test "${where[0]}") ;;
  *) what=(--workspace) ;;
esac
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
