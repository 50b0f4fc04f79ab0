"""What one piece of work makes hosts, network and API server do, beside its time: processes, sessions of sshd, bytes, requests.

Processes are counted by the kernel's own accounting (acct): one record for each process that ended in the rack. What goes on living is not
among them; after an update as many live as before. A round that is counted is not timed.
"""

import collections
import contextlib
import os
import re
import subprocess
import sys

from landfall import release
from sessions import Sessions
from tools import Ssh

# struct acct_v3: 64 bytes a record, flags first, the name in its last 16.
RECORD, NAME = 64, 48
FORKED_ONLY, BY_SIGNAL = 0x01, 0x10
SWITCH = """import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(libc.acct(sys.argv[1].encode() if sys.argv[1:] else None) and ctypes.get_errno())"""
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
# What goes on whether or not anything is deployed.
BACKGROUND = ("leases", "endpoints", "endpointslices", "subjectaccessreviews", "tokenreviews")


def accounting(rack, *file):
    subprocess.run(["nsenter", "-t", str(rack.pid), "-p", "--", sys.executable, "-c", SWITCH, *file], check=True)


def requests(client):
    """Requests so far, by the API server's own metrics: (resource, verb) → number."""
    found = collections.Counter()
    for line in client.text("/metrics").splitlines():
        if line.startswith("apiserver_request_total{"):
            labels, value = line[len("apiserver_request_total{"):].rsplit("} ", 1)
            label = dict(part.split("=", 1) for part in labels.split('",')) if labels else {}
            label = {key: text.strip('"') for key, text in label.items()}
            if label.get("resource") and label["resource"] not in BACKGROUND and label["verb"] != "WATCH":
                where = "/".join(filter(None, (label["resource"], label.get("subresource"))))
                found[where, label["verb"]] += int(float(value))
    return found


class Counted:
    """What was done between `begin` and its end, on the first `n` hosts."""

    def __init__(self):
        self.processes, self.application, self.ssh_sessions, self.sent, self.received = collections.Counter(), 0, 0, 0, 0
        self.requests = collections.Counter()

    def writes(self):
        return {f"{verb} {where}": number for (where, verb), number in sorted(self.requests.items()) if verb in WRITES}

    def reads(self):
        return {f"{verb} {where}": number for (where, verb), number in sorted(self.requests.items()) if verb not in WRITES}

    def row(self, n):
        """For each host, but for the requests."""
        names = ", ".join(f"{name} {number / n:.1f}" for name, number in self.processes.most_common(8))
        return {"processes ended, a host": round(sum(self.processes.values()) / n, 1), "of these": names,
                "the application's own beside them": round(self.application / n, 1),
                "sshd sessions, a host": round(self.ssh_sessions / n, 2), "kB sent, a host": round(self.sent / n / 1000, 1),
                "kB received, a host": round(self.received / n / 1000, 1)}


@contextlib.contextmanager
def counted(rack, n, folder, client=None):
    result, file = Counted(), os.path.join(folder, "accounting")
    open(file, "w").close()
    sessions, asked = rack.ssh_sessions(n), requests(client) if client else collections.Counter()
    accounting(rack, file)
    sent, received = rack.sent(), rack.received()
    try:
        yield result
    finally:
        accounting(rack)
    result.sent, result.received = rack.sent() - sent, rack.received() - received
    with open(file, "rb") as records:
        content = records.read()
    for at in range(0, len(content) - RECORD + 1, RECORD):
        name = content[at + NAME:at + RECORD].split(b"\0")[0].decode(errors="replace")
        if name == "busybox" and content[at] & (FORKED_ONLY | BY_SIGNAL):
            # The server itself, which was stopped, and what it forks for each request.
            result.application += 1
        elif not name.startswith("python"):  # What switches the accounting ends within it.
            result.processes["landfall-host" if re.fullmatch("[0-9a-f]{15}", name) else name] += 1
    os.remove(file)
    result.ssh_sessions = rack.ssh_sessions(n) - sessions
    if client:
        result.requests = requests(client) - asked


def kind(command):
    """A process by what it is, from its command line."""
    session = "landfall-host session" if " session /srv/landfall" in command else None
    return session or ("sshd that listens" if "sshd: /usr" in command else "sshd of a connection" if command.startswith("sshd") else command.split()[0])


def measure(bench, rack, n, by):
    """One roll by each tool."""
    section = f"Counted in one roll of {n} hosts by {by}, 1 MB (a round of its own, not timed)"
    tars = {}
    for version in ("c0", "c1"):
        tar, digest = release(version, 1)
        tars[version] = (f"{bench.folder}/{version}.tar", digest)
        with open(tars[version][0], "wb") as file:
            file.write(tar)
        bench.landfall.publish(version, tar, digest)
    objects = rack.objects("bench", "counted", n)
    bench.landfall.group(objects)
    bench.landfall.deploy("counted", "c0", "100%")
    bench.landfall.at_once(by)
    with counted(rack, n, bench.folder, bench.landfall.client) as done:
        bench.landfall.roll("c1")
    bench.row(section, {"tool": "landfall", **done.row(n)})
    living = collections.Counter(kind(process["command"]) for process in rack.processes() if "inside.sh boot" not in process["command"])
    bench.note("processes that live on, a host, with one application", "; ".join(f"{name}: {count / n:.1f}" for name, count in living.items()),
               "/proc of the rack after that roll; all of its hosts are in the group")
    how = "apiserver_request_total of the API server, without leases and reviews of access"
    bench.note(f"API writes in that roll of {n} hosts", "; ".join(f"{what}: {count}" for what, count in done.writes().items()), how)
    bench.note(f"API reads in that roll of {n} hosts", "; ".join(f"{what}: {count}" for what, count in done.reads().items()), how)
    bench.landfall.remove()
    bench.landfall.forget(objects)
    fleet = Sessions(bench.options.fleet, rack)
    fleet.ask("connect", n)
    fleet.ask("load", "c0", tars["c0"][0])
    fleet.ask("load", "c1", tars["c1"][0], "c0")
    fleet.ask("roll", n, n, "c0")
    with counted(rack, n, bench.folder) as done:
        fleet.ask("roll", n, by, "c1")
    bench.row(section, {"tool": Sessions.name, **done.row(n)})
    fleet.ask("remove", n)
    fleet.end()
    for tool in bench.tools(rack, ("ssh", "pyinfra", "ansible"), shared=True):
        bench.clean(rack, n)
        Ssh(rack, shared=True).roll(n, n, "c0", *tars["c0"])
        with counted(rack, n, bench.folder) as done:
            tool.roll(n, by, "c1", *tars["c1"])
        bench.row(section, {"tool": tool.name, **done.row(n)})
    bench.clean(rack, n)
