"""From tens of hosts to a thousand: time, processor time, memory, open files and API requests of one operator, and of the fleet alone.

Hosts are real here too: each has its own OpenSSH server, namespaces, files and `landfall-host`; a thousand of them fit on one machine.
They share two cores with all else, so wall time grows with what hosts have to compute: the operator's own seconds are what it costs a user.
Each number of hosts has an operator of its own, so its memory is that of one group and not of what came before.
"""

import json
import os
import time

from counts import WRITES, requests
from landfall import Landfall, release
from sessions import Sessions
from tools import Ssh

SECTION = "From {} to {} hosts"
LOOK, ROLL = "W1 cold, each asked once", "W4 by a tenth, 1 MB, HTTP"
MEMORY = "memory (PSS), open files and threads of our side"


def machine():
    """Seconds of CPU that all of the machine has used so far."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:]]
    return (sum(ticks[:3]) + sum(ticks[5:7])) / os.sysconf("SC_CLK_TCK")


class Spent:
    """Wall seconds, and CPU seconds of operator, API server and all else (sshd, programs and applications of the hosts, network)."""

    def __init__(self, ours, plane=None):
        self.ours, self.plane = ours, plane.cpu if plane else lambda: 0
        self.before = self.ours(), self.plane(), machine()
        self.begun = time.monotonic()

    def end(self):
        wall = time.monotonic() - self.begun
        ours, plane, every = (after - before for before, after in zip(self.before, (self.ours(), self.plane(), machine())))
        return wall, ours, plane, every - ours - plane


def seconds(wall, ours, plane, hosts):
    return {"wall s": round(wall, 2), "its CPU s": round(ours, 2), "API server's CPU s": round(plane, 2) if plane else "",
            "CPU s of hosts and kernel": round(hosts, 2)}


def writes(before, after):
    return sum(number for (_, verb), number in (after - before).items() if verb in WRITES)


def typical(samples):
    """The row of the median wall time."""
    return sorted(samples, key=lambda row: next(iter(row.values())))[len(samples) // 2]


class Scale:
    """The same work on more and more hosts of one rack."""

    def __init__(self, bench, rack, section):
        self.bench, self.rack, self.section = bench, rack, section
        # Memory of the operator by number of hosts.
        self.connected = {}

    def guarded(self, part, n, *words):
        """What fails is told, and stops nothing else that was to be measured."""
        try:
            part(n, *words)
        except Exception as error:
            self.bench.note(f"FAILED with {n} hosts: {part.__name__}", str(error).replace("\n", " ")[:500], type(error).__name__)
            # Nothing of it may run beside what comes next. The brackets keep a pattern from matching its own command.
            script = "pkill -KILL -f '^[l]andfall-|[s]ession /srv/landfall'; pkill -KILL -x busybox; rm -rf /srv/landfall/*.app /srv/app; true"
            Ssh(self.rack, shared=False).each(self.rack.addresses[:n], script)

    def row(self, part, n, tool, *columns):
        row = {"hosts": n, "tool": tool}
        for more in columns:
            row |= more
        self.bench.row(f"{self.section}: {part}", row)

    def product(self, n, rounds, tars):
        """The whole of landfall."""
        landfall = Landfall(self.bench.plane, f"scale-{n}")
        landfall.patience, client, operator = 1200, landfall.client, landfall.operator
        try:
            for version, (path, digest) in tars.items():
                with open(path, "rb") as file:
                    landfall.publish(version, file.read(), digest)
            time.sleep(3)
            memory = {"idle, MB": round(operator.memory(), 1)}
            looks, rolls = [], []
            for round_ in range(rounds + 1):
                objects = self.rack.objects(landfall.namespace, f"look-{n}-{round_}", n)
                spent = Spent(operator.cpu, self.bench.plane)
                landfall.group(objects)
                # The program gets there in the first round.
                if round_ > 0:
                    looks.append(seconds(*spent.end()))
                if round_ < rounds:
                    landfall.forget(objects)
            time.sleep(5)
            self.row(LOOK, n, "landfall", typical(looks))
            self.connected[n] = operator.memory()
            memory |= {"connected, MB": round(operator.memory(), 1)} | operator.held()
            name = objects[-1]["metadata"]["name"]
            landfall.deploy(name, "s0", "100%")
            landfall.at_once("10%")
            largest = 0
            for version in list(tars)[1:]:
                asked, spent = requests(client), Spent(operator.cpu, self.bench.plane)
                landfall.roll(version)
                result = seconds(*spent.end())
                result["API writes"] = writes(asked, requests(client))
                result["API writes a second"] = round(result["API writes"] / result["wall s"], 1)
                largest = max(largest, len(json.dumps(client.get(landfall.namespace, "deployments", "app"))))
                rolls.append(result)
            self.row(ROLL, n, "landfall", typical(rolls), {"Deployment, kB of JSON": round(largest / 1000, 1)})
            time.sleep(5)
            memory |= {"after W4, MB": round(operator.memory(), 1), "most RSS, MB": round(operator.most_memory(), 1)}
            self.row(MEMORY, n, "landfall", memory)
            self.hosts(n)
            landfall.remove()
            landfall.forget(objects)
        finally:
            operator.end()

    def hosts(self, n):
        """Memory of ours on the hosts, while all are connected and an application runs on each."""
        kinds = {"session": lambda command: " session /srv/landfall" in command, "keeper": lambda command: command.startswith("landfall-keeper"),
                 "sshd of a connection": lambda command: command.startswith("sshd: root")}
        found = self.rack.processes()
        for kind, fits in kinds.items():
            memory = [process["memory"] for process in found if fits(process["command"])]
            mean = lambda value: round(sum(map(value, memory)) / max(1, len(memory)))
            self.row("memory on the hosts while an application runs on each, kB a process", n, "landfall", {
                "process": kind, "processes": len(memory), "written (Private_Dirty)": mean(lambda m: m["Private_Dirty"]),
                "private": mean(lambda m: m["Private_Dirty"] + m["Private_Clean"]), "PSS": mean(lambda m: m["Pss"]), "RSS": mean(lambda m: m["Rss"])})

    def fleet(self, n, rounds, tars):
        """The fleet without Kubernetes."""
        alone = Sessions(self.bench.options.fleet, self.rack)
        try:
            self.by_fleet(alone, n, rounds, tars)
        finally:
            alone.end()

    def by_fleet(self, alone, n, rounds, tars):
        alone.ask("drop")  # It answers once it runs.
        memory = {"idle, MB": round(alone.memory(), 1)}
        looks, rolls = [], []
        alone.ask("connect", n)
        for _ in range(rounds):
            alone.ask("drop")
            spent = Spent(alone.cpu)
            alone.ask("connect", n)
            looks.append(seconds(*spent.end()))
        time.sleep(3)
        memory |= {"connected, MB": round(alone.memory(), 1)} | alone.held()
        warm = sorted(alone.ask("look", n) for _ in range(3))[1]
        self.row(LOOK, n, Sessions.name, typical(looks), {"again, all connected: wall s": round(warm[0], 3), "its CPU s then": round(warm[1], 3)})
        last = None
        for version, (path, _) in tars.items():
            alone.ask("load", version, path, *([last] if last else []))
            if last:
                spent = Spent(alone.cpu)
                alone.ask("roll", n, max(1, n // 10), version)
                rolls.append(seconds(*spent.end()))
            else:
                alone.ask("roll", n, n, version)
            last = version
        self.row(ROLL, n, Sessions.name, typical(rolls))
        self.row(MEMORY, n, Sessions.name, memory | {"after W4, MB": round(alone.memory(), 1)})
        alone.ask("remove", n)

    def ssh(self, n, rounds, tars):
        """Hand-tuned ssh beside it."""
        looks, rolls = [], []
        client = lambda: sum(os.times()[2:4])
        for _ in range(rounds):
            spent = Spent(client)
            Ssh(self.rack, shared=False).look(n)
            looks.append(seconds(*spent.end()))
        tool = Ssh(self.rack, shared=True)
        for version, (path, digest) in tars.items():
            spent = Spent(client)
            tool.roll(n, n if version == "s0" else max(1, n // 10), version, path, digest)
            if version != "s0":
                rolls.append(seconds(*spent.end()))
        self.bench.clean(self.rack, n)
        self.rack.hang_up()
        self.row(LOOK, n, "ssh, xargs -P", typical(looks))
        self.row(ROLL, n, "ssh, xargs -P", typical(rolls))


def measure(bench, sizes):
    begun = time.monotonic()
    rack = bench.rack(max(sizes), disk_mib=64)
    bench.note(f"seconds until {max(sizes)} hosts are up", round(time.monotonic() - begun), "tests/support/hosts.sh")
    scale = Scale(bench, rack, SECTION.format(min(sizes), max(sizes)))
    try:
        for n in sizes:
            rounds = max(1, min(bench.options.rounds, 600 // n))
            tars = {}
            for version in [f"s{i}" for i in range(rounds + 1)]:
                tar, digest = release(version, 1)
                tars[version] = (f"{bench.folder}/{version}.tar", digest)
                with open(tars[version][0], "wb") as file:
                    file.write(tar)
            for part in (scale.product, scale.fleet, scale.ssh):
                scale.guarded(part, n, rounds, tars)
    finally:
        rack.end()
    measured = sorted(scale.connected)
    if len(measured) > 1:
        least, most = measured[0], measured[-1]
        slope = (scale.connected[most] - scale.connected[least]) * 1000 / (most - least)
        how = f"PSS of the operator, slope from {least} to {most} hosts, each with an operator of its own"
        bench.note("memory of the operator, kB for each connected host", round(slope), how)
