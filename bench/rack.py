"""The machines: real OpenSSH servers of tests/support/hosts.sh, as each tool wants to be told of them."""

import ipaddress
import json
import os
import subprocess
import sys

import yaml

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/support/hosts.sh")
# What anyone who tunes ssh sets: the cheapest good key exchange and cipher, and no look at files that are not ours.
FAST = """Host *
  User root
  IdentityFile {state}/identity
  IdentitiesOnly yes
  UserKnownHostsFile {state}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  KexAlgorithms curve25519-sha256
  Ciphers aes128-gcm@openssh.com
  HostKeyAlgorithms ssh-ed25519
  BatchMode yes
  LogLevel ERROR
  ConnectTimeout 20
"""
SHARED = """  ControlMaster auto
  ControlPath {state}/cm-%h
  ControlPersist 600
"""
# Runs where /proc shows the rack alone: its own processes have one number there, those of its hosts have two.
LIST = r"""
import json, os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        status = open(f"/proc/{pid}/status").read()
        if len(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()) < 3:
            continue
        memory = {line.split(":")[0]: int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup").readlines()[1:]}
        print(json.dumps({"command": open(f"/proc/{pid}/cmdline").read().replace("\0", " ").strip(), "memory": memory}))
    except (OSError, StopIteration):
        continue
"""
# All hosts share one kernel here, and with it limits that each of them would have for itself. Below them programs fall back to polling
# (inotify), and addresses are asked for again and again (neighbours).
LIMITS = {"fs/inotify/max_user_instances": 16384, "net/ipv4/neigh/default/gc_thresh1": 16384,
          "net/ipv4/neigh/default/gc_thresh2": 16384, "net/ipv4/neigh/default/gc_thresh3": 32768}


class Limits:
    """The kernel's limits, raised until the end."""

    def __init__(self):
        self.before = {}
        for name, wanted in LIMITS.items():
            before = self.read(name)
            if before < wanted:
                self.before[name] = before
                self.write(name, wanted)

    @staticmethod
    def read(name):
        with open(f"/proc/sys/{name}") as file:
            return int(file.read())

    @staticmethod
    def write(name, value):
        with open(f"/proc/sys/{name}", "w") as file:
            file.write(str(value))

    def end(self):
        for name, value in self.before.items():
            self.write(name, value)


class Rack:
    """`disk_mib`: of each host's tmpfs; 0: its files lie in the folder, on the disk where that is."""

    def __init__(self, count, folder, disk_mib=384):
        self.state = os.path.join(folder, f"rack-{count}")
        subprocess.run([SCRIPT, "up", str(count), "--disk-mib", str(disk_mib), "--sshd", "Subsystem sftp internal-sftp", "--state", self.state], check=True)
        with open(f"{self.state}/list") as file:
            self.addresses = [line.split("\t")[1] for line in file]
        block = (int(ipaddress.ip_address(self.addresses[0])) - int(ipaddress.ip_address("198.18.0.0"))) // 1024
        self.interface = f"lfh{block}"
        with open(f"{self.state}/rack.pid") as file:
            # The first process of the namespaces in which all hosts live.
            self.pid = int(file.read())
        self.write("ssh_config", FAST.format(state=self.state))
        self.write("ssh_config_shared", FAST.format(state=self.state) + SHARED.format(state=self.state))
        for n in sorted({count, 20, 50} - {n for n in (20, 50) if n > count}):
            self.write(f"inventory-{n}.ini", "[all]\n" + "".join(f"{a}\n" for a in self.addresses[:n]))
            hosts = [(a, {"ssh_user": "root", "ssh_key": f"{self.state}/identity", "ssh_known_hosts_file": f"{self.state}/known_hosts",
                          "ssh_strict_host_key_checking": "yes"}) for a in self.addresses[:n]]
            self.write(f"inventory_{n}.py", f"hosts = {hosts!r}\n")

    def write(self, name, text):
        with open(f"{self.state}/{name}", "w") as file:
            file.write(text)

    def objects(self, namespace, group, count=None):
        """HostGroup and Secrets for the API."""
        text = subprocess.run([SCRIPT, "yaml", namespace, group, "--state", self.state], check=True, capture_output=True, text=True).stdout
        objects = list(yaml.safe_load_all(text))
        objects[-1]["spec"]["hosts"] = objects[-1]["spec"]["hosts"][:count]
        return objects

    def act(self, i, act, *words):
        """One of the acts of hosts.sh on a host; what it printed."""
        name = f"web-{i + 1:02d}"
        return subprocess.run([SCRIPT, act, "--state", self.state, name, *words], check=True, capture_output=True, text=True).stdout

    def run(self, i, command):
        return self.act(i, "exec", "sh", "-c", command)

    def sent(self):
        """Bytes that this side has sent to all hosts so far."""
        return self.bytes("tx")

    def received(self):
        return self.bytes("rx")

    def bytes(self, way):
        with open(f"/sys/class/net/{self.interface}/statistics/{way}_bytes") as file:
            return int(file.read())

    def ssh_sessions(self, n):
        """Sessions that sshd has opened so far on the first hosts, by its own log."""
        return sum(int(self.run(i, "grep -c 'Starting session' /run/sshd.log || true")) for i in range(n))

    def processes(self):
        """Every process of the hosts (not those that make them): command line, and memory in kB as smaps_rollup has it."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-p", "--", sys.executable, "-c", LIST]
        return [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]

    def hang_up(self):
        """Ends the connections that ssh keeps open."""
        kept = [address for address in self.addresses if os.path.exists(f"{self.state}/cm-{address}")]
        command = ["xargs", "-r", "-P", "8", "-n", "1", "ssh", "-F", f"{self.state}/ssh_config_shared", "-O", "exit"]
        subprocess.run(command, input="\n".join(kept), text=True, stderr=subprocess.DEVNULL, check=False)

    def end(self):
        self.hang_up()
        subprocess.run([SCRIPT, "down", "--state", self.state], check=False)
