#!/usr/bin/env bash
# landfall from nothing: a control plane, three SSH hosts, a program that a compiler builds, two versions of it, and a crash.
# On a terminal it stays up until Ctrl-C; without one it ends by itself. Nothing is left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d /tmp/landfall-demo-XXXXXX)
state=$work/hosts dev='' begun=$SECONDS
landfall=target/debug/landfall

finish() {
  code=$?
  trap - EXIT INT TERM
  case $code in 0 | 130 | 143) ;; *) keep_logs >&2 ;; esac
  [ ! -d "$state" ] || tests/support/hosts.sh down --state "$state" >/dev/null 2>&1 || true
  if [ -n "$dev" ]; then
    kill "$dev" 2>/dev/null || true
    wait "$dev" 2>/dev/null || true
  fi
  rm -rf "$work"
  exit "$code"
}
# What helps to understand a failure outlives the demo.
keep_logs() {
  [ -s "$work/dev.log" ] || return 0
  mkdir -p target/demo-logs
  cp "$work/dev.log" target/demo-logs/dev.log
  # The operator's and the control plane's own logs go when landfall dev ends.
  cp -r "$(sed -n 's/^landfall dev: logs: //p' "$work/dev.log")" target/demo-logs/ 2>/dev/null || true
  [ -z "${kubectl_program:-}" ] || kubectl -n demo get landfall,events -o yaml --request-timeout=10s >target/demo-logs/objects.yaml 2>&1 || true
  echo "demo: it failed after $((SECONDS - begun)) s. The last lines of landfall dev:"
  tail -n 20 "$work/dev.log"
  echo "demo: all of its log and the objects as they were: $PWD/target/demo-logs/"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s  (%s s)\n' "$*" "$((SECONDS - begun))"; }
fail() { echo "demo: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is missing; install $2 and try again"; }
# until SECONDS WHAT COMMAND…: tries until it succeeds
until_ok() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "waited too long for $what"
    sleep 0.2
  done
}
ask() {
  local host
  for host in $addresses; do curl -s -m 3 "http://$host:8080/" || echo "(no answer from $host just now)"; done
}
commit() { git -C "$work/hello" -c user.name=demo -c user.email=demo@example.com commit -q -a -m "$1"; git -C "$work/hello" push -q origin main; }
build() {
  kubectl apply -f - <<YAML
apiVersion: landfall.dev/v1alpha1
kind: Build
metadata: { name: $1, namespace: demo }
spec: { projectRef: { name: hello }, revision: main }
YAML
  kubectl -n demo wait --for=condition=Ready --timeout=120s "builds.landfall.dev/$1"
}
kubectl() { "$kubectl_program" "$@"; }
# 3: in progress
show() { "$landfall" status -n demo deployment/hello || [ $? = 3 ]; }
updated() { [ "$(kubectl -n demo get lfd hello -o 'jsonpath={.status.hosts.updated}')" = "$1" ]; }
both_versions() { [ "$(kubectl -n demo get lfd hello -o 'jsonpath={.status.versions[*].version}' | wc -w)" -ge 2 ]; }

[ "$(id -u)" = 0 ] || fail "run it as root: the test hosts and the build sandbox are made of namespaces and users of their own"
need cargo "Rust 1.89 or newer"
need go "Go 1.26 or newer (it builds the Kubernetes control plane)"
scripts/install-test-tools.sh
say "Building landfall"
cargo build --locked

say "Three machines with an SSH server"
tests/support/hosts.sh up 3 --state "$state"
tests/support/hosts.sh yaml demo web --state "$state" >"$work/hosts.yaml"
addresses=$(sed -n 's/.*address: \([0-9.]*\).*/\1/p' "$work/hosts.yaml")
echo "$addresses"

say "A Kubernetes control plane with landfall on it (the first time it is compiled: some minutes)"
"$landfall" dev --ephemeral --ready-file "$work/ready" -- --allow-file-git --lease-seconds 3 >"$work/dev.log" 2>&1 &
dev=$!
ready() { [ -s "$work/ready" ] || ! kill -0 "$dev" 2>/dev/null; }
until_ok 1800 "the control plane" ready
[ -s "$work/ready" ] || fail "landfall dev ended"
KUBECONFIG=$(cat "$work/ready")
export KUBECONFIG
kubectl_program=$(sed -n 's/^landfall dev: kubectl: //p' "$work/dev.log")
kubectl version

say "A git repository with a small web service in C"
git init -q --bare -b main "$work/hello.git"
git init -q -b main "$work/hello"
cp examples/hello/* "$work/hello/"
git -C "$work/hello" remote add origin "$work/hello.git"
git -C "$work/hello" add -A
commit "A service that says its version"
git -C "$work/hello" log --oneline

say "Project and HostGroup are declared; landfall may read the Secrets of this namespace"
kubectl create namespace demo
kubectl apply -n demo -k manifests/tenant
kubectl apply -f "$work/hosts.yaml"
sed "s#file:///srv/git/hello.git#file://$work/hello.git#" examples/project.yaml | kubectl apply -n demo -f -

say "Version 1 is built: checked out, compiled in a sandbox, tagged"
build hello-1
git -C "$work/hello.git" tag -n

say "Version 1 is deployed"
sed 's/minReadySeconds: 1/minReadySeconds: 2/' examples/deployment.yaml | kubectl apply -n demo -f -
kubectl -n demo wait --for=condition=Ready --timeout=120s deployments.landfall.dev/hello
show
ask

say "A commit, and version 2 is built"
echo '/* the second version */' >>"$work/hello/hello.c"
commit "Say it better"
build hello-2

say "Version 2 is rolled out, one host at a time; in the middle both run side by side"
kubectl -n demo patch lfd hello --type merge -p '{"spec":{"version":"v2"}}'
until_ok 60 "two versions side by side" both_versions
show
ask

say "The operator is killed (-9) in the middle of the rollout"
operator=$(pgrep -f "^[^ ]*landfall run --data-dir $(dirname "$KUBECONFIG")/operator" | head -n 1)
[ -n "$operator" ] || fail "the operator's process was not found"
[ "$(kubectl -n demo get lfd hello -o 'jsonpath={.status.hosts.ready}')" != 3 ] || fail "the rollout was over before the operator could be killed"
kill -9 "$operator"
echo "killed process $operator; landfall dev starts another, which looks at the hosts and goes on"
until_ok 120 "version 2 on all hosts" updated 3
kubectl -n demo wait --for=condition=Ready --timeout=120s deployments.landfall.dev/hello
show
ask
[ "$(ask | grep -c 'version v2')" = 3 ] || fail "not all hosts serve version 2"
kubectl -n demo get landfall

say "Done"
if [ -t 1 ] && [ -z "${CI:-}" ]; then
  cat <<TEXT
It stays up until Ctrl-C. In another terminal:
  export KUBECONFIG=$KUBECONFIG PATH=\$PATH:$(dirname "$kubectl_program"):$PWD/target/debug
  kubectl -n demo get landfall
  kubectl -n demo patch lfd hello --type merge -p '{"spec":{"version":"v1"}}'    # back to version 1
  landfall status -n demo deployment/hello
  curl http://$(echo "$addresses" | head -n 1):8080/
TEXT
  wait "$dev"
fi
