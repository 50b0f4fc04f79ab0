# The commands of this project, all of them; CI calls these and nothing else.

N ?= 20
NAMESPACE ?= default
GROUP ?= demo

.PHONY: hosts hosts-down

# N test hosts that stay up; HostGroup and Secrets on standard output: make -s hosts N=20 | kubectl apply -f -
hosts:
	@scripts/install-test-tools.sh
	@tests/support/hosts.sh up $(N)
	@tests/support/hosts.sh yaml $(NAMESPACE) $(GROUP)

hosts-down:
	@tests/support/hosts.sh down
