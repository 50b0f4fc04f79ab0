# The commands of this project, all of them; CI calls these and nothing else.

N ?= 20
NAMESPACE ?= default
GROUP ?= demo

.PHONY: bench demo test night t t-down crashes lint crds hosts hosts-down landfall-host

# From nothing to two versions of a real program on three SSH hosts, shown step by step.
demo:
	@scripts/demo.sh

# Installs what the tests need and runs them all.
test:
	@scripts/test.sh

# The same with all of what make test takes samples of: every crash point, thousands of generated cases. Hours.
night:
	@LANDFALL_NIGHT=1 scripts/test.sh

# make t T=name: the tests whose name has this in it, against a control plane that stays up until make t-down.
t:
	@scripts/t.sh "$(T)"

t-down:
	@scripts/t.sh --down

# Every point of the crash harness, each with the operator killed there; make test runs a sample.
crashes:
	@LANDFALL_CRASH_SECONDS= LANDFALL_PROFILE=night scripts/test.sh --test crashes

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	shellcheck scripts/*.sh .ci/run
	cargo deny check

# crds/ after a change of core/src/api.
crds:
	LANDFALL_WRITE_CRDS=1 cargo test --locked -q -p landfall-core --test crds crds_on_disk

# N test hosts that stay up; HostGroup and Secrets on standard output: make -s hosts N=20 | kubectl apply -f -
hosts:
	@scripts/install-test-tools.sh
	@tests/support/hosts.sh up $(N)
	@tests/support/hosts.sh yaml $(NAMESPACE) $(GROUP)

hosts-down:
	@tests/support/hosts.sh down

# What landfall costs, beside OpenSSH with xargs, pyinfra and ansible-core in one run; builds for release first (minutes).
bench:
	@bench/run.sh $(BENCH)

# landfall-host as a release has it, static, for both machines; a landfall that embeds both is built with LANDFALL_HOST_X86_64 and LANDFALL_HOST_AARCH64.
landfall-host:
	@scripts/build-host.sh x86_64
	@scripts/build-host.sh aarch64
