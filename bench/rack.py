"""The machines: real OpenSSH servers of tests/support/hosts.sh, as each tool wants to be told of them."""

import ipaddress
import os
import subprocess

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


class Rack:
    def __init__(self, count, folder, disk_mib=384):
        self.state = os.path.join(folder, f"rack-{count}")
        subprocess.run([SCRIPT, "up", str(count), "--disk-mib", str(disk_mib), "--sshd", "Subsystem sftp internal-sftp", "--state", self.state], check=True)
        with open(f"{self.state}/list") as file:
            self.addresses = [line.split("\t")[1] for line in file]
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

    def run(self, i, command):
        name = f"web-{i + 1:02d}"
        return subprocess.run([SCRIPT, "exec", "--state", self.state, name, "sh", "-c", command], check=True, capture_output=True, text=True).stdout

    def sent(self):
        """Bytes that this side has sent to all hosts so far."""
        block = (int(ipaddress.ip_address(self.addresses[0])) - int(ipaddress.ip_address("198.18.0.0"))) // 1024
        with open(f"/sys/class/net/lfh{block}/statistics/tx_bytes") as file:
            return int(file.read())

    def end(self):
        for address in self.addresses:
            if os.path.exists(f"{self.state}/cm-{address}"):
                subprocess.run(["ssh", "-F", f"{self.state}/ssh_config_shared", "-O", "exit", address], stderr=subprocess.DEVNULL, check=False)
        subprocess.run([SCRIPT, "down", "--state", self.state], check=False)
