"""The same work by the tools that users would pick instead. Each function is one run; what it must have done is checked by the caller."""

import os
import subprocess

VENV = os.environ.get("BENCH_VENV", "")
LOOK = "uname -r; cat /proc/sys/kernel/random/boot_id; df -Pk /srv; cat /srv/app/version 2>/dev/null; true"
# At once; more does not make it faster on so few cores.
AT_ONCE = 32

# A release on the host: received under another name, verified, unpacked, renamed. Arguments: version, digest.
PUT = """set -e; mkdir -p /srv/app/releases; t=/srv/app/releases/.$1.tmp; rm -rf $t /srv/app/releases/$1; mkdir $t; cat >$t.tar
set -- $1 $2 $(sha256sum $t.tar); [ $2 = $3 ]; tar -xf $t.tar -C $t; rm $t.tar; mv $t /srv/app/releases/$1"""
# Switched, the old process stopped, the new one started and asked until it answers with its version. Argument: version.
SWITCH = """set -e; cd /srv/app; if [ -e pid ]; then p=$(cat pid); kill $p 2>/dev/null || :; while kill -0 $p 2>/dev/null; do sleep 0.05; done; fi
ln -s releases/$1 current.new; mv -T current.new current; cd current; setsid sh -c 'echo $$ >/srv/app/pid; exec ./app' >/dev/null 2>&1 </dev/null &
n=0; until [ "$(busybox wget -q -O - http://127.0.0.1:8080/version 2>/dev/null)" = $1 ]; do n=$((n+1)); [ $n -lt 400 ]; sleep 0.05; done"""


def run(command, text=None):
    """Runs to the end; raises where it failed."""
    environment = dict(os.environ, ANSIBLE_HOST_KEY_CHECKING="True", ANSIBLE_LOCALHOST_WARNING="False", ANSIBLE_NOCOWS="1",
                       ANSIBLE_DEPRECATION_WARNINGS="False", ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3", ANSIBLE_PIPELINING="True")
    done = subprocess.run(command, input=text, text=True, capture_output=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} … ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def quoted(script):
    return "'" + script.replace("'", "'\\''") + "'"


class Ssh:
    """Hand-tuned OpenSSH under xargs -P."""

    name = "ssh"

    def __init__(self, rack, shared):
        self.rack, self.config = rack, f"{rack.state}/ssh_config" + ("_shared" if shared else "")

    def each(self, addresses, script, stdin="/dev/null", at_once=AT_ONCE):
        line = f"ssh -F {self.config} \"$0\" {quoted(script)} <{stdin} >/dev/null"
        run(["xargs", "-P", str(at_once), "-n", "1", "sh", "-c", line], "\n".join(addresses))

    def look(self, n):
        self.each(self.rack.addresses[:n], f"sh -c {quoted(LOOK)}")

    def put(self, n, version, tar, digest):
        self.each(self.rack.addresses[:n], f"sh -c {quoted(PUT)} sh {version} {digest}", tar)

    def roll(self, n, by, version, tar, digest):
        self.put(n, version, tar, digest)
        for first in range(0, n, by):
            self.each(self.rack.addresses[first:first + by], f"sh -c {quoted(SWITCH)} sh {version}")


class Rsync:
    """rsync beside the release before it, over connections that are open already, verified there."""

    name = "rsync --copy-dest"

    def __init__(self, rack):
        self.rack, self.ssh, self.unpacked = rack, Ssh(rack, shared=True), 0

    def next(self, n, version, before):
        tree = f"{self.rack.state}/rsync-{version}"
        line = (f"rsync -rlpt --copy-dest=/srv/app/releases/{before} -e 'ssh -F {self.ssh.config}' {tree}/ \"$0\":/srv/app/releases/{version}/"
                f" && ssh -F {self.ssh.config} \"$0\" 'cd /srv/app/releases/{version} && sha256sum --quiet -c .sums' >/dev/null")
        run(["xargs", "-P", str(AT_ONCE), "-n", "1", "sh", "-c", line], "\n".join(self.rack.addresses[:n]))

    def unpack(self, version, tar):
        """The tree that is sent; nothing of this is measured."""
        tree = f"{self.rack.state}/rsync-{version}"
        os.makedirs(tree)
        run(["sh", "-c", f"tar -xf {tar} -C {tree} && cd {tree} && find . -type f ! -name .sums -exec sha256sum {{}} + >.sums"])
        # rsync takes files of the same size and time for the same: two versions may be unpacked within a second.
        self.unpacked += 1
        os.utime(f"{tree}/.sums", (self.unpacked, self.unpacked))


class Pyinfra:
    name = "pyinfra"

    def __init__(self, rack):
        self.rack = rack

    def call(self, n, *arguments):
        run([f"{VENV}/bin/pyinfra", "-y", "--parallel", str(AT_ONCE), f"{self.rack.state}/inventory_{n}.py", *arguments])

    def look(self, n):
        self.call(n, "exec", "--", "sh", "-c", quoted(LOOK))

    def deploy(self, name, text):
        path = f"{self.rack.state}/{name}.py"
        with open(path, "w") as file:
            file.write(text)
        return path

    def put_text(self, version, tar, digest):
        script = f"sh -c {quoted(PUT)} sh {version} {digest} </srv/up.tar && rm /srv/up.tar"
        return ("from pyinfra.operations import files, server\n"
                f"files.put(src={tar!r}, dest='/srv/up.tar', create_remote_dir=False)\nserver.shell(commands=[{script!r}])\n")

    def put(self, n, version, tar, digest):
        self.call(n, self.deploy("put", self.put_text(version, tar, digest)))

    def roll(self, n, by, version, tar, digest):
        self.put(n, version, tar, digest)
        script = f"sh -c {quoted(SWITCH)} sh {version}"
        path = self.deploy("switch", f"from pyinfra.operations import server\nserver.shell(commands=[{script!r}])\n")
        for first in range(0, n, by):
            self.call(n, path, "--limit", ",".join(self.rack.addresses[first:first + by]))


class Ansible:
    name = "ansible-core"

    def __init__(self, rack):
        self.rack = rack

    def common(self, n):
        ssh = f"-F {self.rack.state}/ssh_config -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={self.rack.state}/am-%h"
        return ["-i", f"{self.rack.state}/inventory-{n}.ini", "-f", str(AT_ONCE), "--ssh-common-args", ssh]

    def look(self, n):
        run([f"{VENV}/bin/ansible", "all", *self.common(n), "-m", "raw", "-a", LOOK])

    def play(self, n, name, text):
        path = f"{self.rack.state}/{name}.yml"
        with open(path, "w") as file:
            file.write(text)
        run([f"{VENV}/bin/ansible-playbook", *self.common(n), path])

    def put_tasks(self, version, tar, digest):
        script = f"sh -c {quoted(PUT)} sh {version} {digest} </srv/up.tar && rm /srv/up.tar"
        return f"    - copy: {{ src: {tar}, dest: /srv/up.tar }}\n    - shell: |\n{indent(script)}\n"

    def put(self, n, version, tar, digest):
        self.play(n, "put", "- hosts: all\n  gather_facts: false\n  tasks:\n" + self.put_tasks(version, tar, digest))

    def roll(self, n, by, version, tar, digest):
        switch = f"sh -c {quoted(SWITCH)} sh {version}"
        self.play(n, "roll", "- hosts: all\n  gather_facts: false\n  tasks:\n" + self.put_tasks(version, tar, digest) +
                  f"- hosts: all\n  gather_facts: false\n  serial: {by}\n  max_fail_percentage: 0\n  tasks:\n    - shell: |\n{indent(switch)}\n")


def indent(text):
    return "\n".join("        " + line for line in text.splitlines())
