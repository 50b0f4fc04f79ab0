"""`make bench`: what landfall costs, beside the same work by the tools that users would pick instead, in one run on one machine.

Each row is the median of some rounds; within a round every tool does the work once, so that what disturbs the machine disturbs all.
Nothing here is a test: numbers are printed, with ratios, and written to target/bench/.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
import traceback

import counts
import latency
import scale
import times
from distance import Distance
from landfall import SERVE, SLOW, Landfall, jar, release
from plane import Plane
from rack import Limits, Rack
from sessions import Sessions
from tools import Ansible, Pyinfra, Rsync, Ssh


class Table:
    """Rows of (workload, tool) → samples of wall and CPU seconds."""

    def __init__(self):
        self.rows = {}

    def add(self, workload, tool, wall, cpu):
        self.rows.setdefault(workload, {}).setdefault(tool, []).append((wall, cpu))
        print(f"  {workload:<34} {tool:<22} {wall:8.3f} s  {cpu:7.3f} CPU s", flush=True)

    def text(self):
        out = ["| workload | tool | wall s (min … max) | client CPU s | landfall's wall ÷ this |", "|---|---|---|---|---|"]
        for workload, tools in self.rows.items():
            walls = {tool: statistics.median(w for w, _ in samples) for tool, samples in tools.items()}
            for tool, samples in tools.items():
                all_walls, cpu = [w for w, _ in samples], statistics.median(c for _, c in samples)
                ratio = f"{walls['landfall'] / walls[tool]:.2f}" if "landfall" in walls else "–"
                out.append(f"| {workload} | {tool} | {walls[tool]:.2f} ({min(all_walls):.2f} … {max(all_walls):.2f}) | {cpu:.2f} | {ratio} |")
        return "\n".join(out)


EVERY = ("ssh", "pyinfra", "ansible")


def markdown(rows):
    """Rows of one section: column → value, columns in the order in which they first came."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows])


class Bench:
    def __init__(self, options):
        self.options, self.table, self.notes, self.hows, self.sections = options, Table(), {}, {}, {}
        self.limits = Limits()
        self.folder = tempfile.mkdtemp(prefix="landfall-bench-")
        self.racks = tempfile.mkdtemp(prefix="landfall-bench-", dir=options.hosts_on) if options.hosts_on else self.folder
        self.plane = Plane(os.path.abspath(options.landfall), self.folder)
        self.landfall = Landfall(self.plane, "bench")

    def rack(self, count, disk_mib=384):
        return Rack(count, self.racks, 0 if self.options.hosts_on else disk_mib)

    def note(self, what, value, how=""):
        self.notes[what], self.hows[what] = value, how
        print(f"  {what}: {value}", flush=True)

    def row(self, section, row):
        self.sections.setdefault(section, []).append(row)
        print(f"  {section}: {row}", flush=True)

    def tool(self, workload, name, work):
        """Times a tool: wall seconds, and CPU seconds of its own processes on this side (hosts' processes are no children of ours)."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        work()
        wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        self.table.add(workload, name, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def ours(self, workload, work):
        """Times landfall: the wall seconds that the work answers, and the operator's CPU seconds."""
        before = self.landfall.operator.cpu()
        wall = work()
        self.table.add(workload, "landfall", wall, self.landfall.operator.cpu() - before)

    def look(self, rack, n, where="", rivals=EVERY):
        workload = f"W1 check {n} hosts, cold{where}"
        for round in range(self.options.rounds + 1):
            # A group of its own each time: of one that comes back at once what is known may still be true.
            objects = rack.objects("bench", f"look-{n}-{round}{'-away' if where else ''}", n)
            objects[-1]["spec"]["ssh"]["maxConcurrentConnections"] = n
            if round == 0:
                # The program gets there once; what is timed is what happens every day.
                self.landfall.group(objects)
                self.landfall.forget(objects)
                continue
            self.ours(workload, lambda: self.landfall.group(objects))
            self.note_memory(f"operator, connected to {n} hosts{where}")
            self.landfall.forget(objects)
            self.tool(workload, "ssh, xargs -P", lambda: Ssh(rack, shared=False).look(n))
            if "pyinfra" in rivals:
                self.tool(workload, "pyinfra", lambda: Pyinfra(rack).look(n))
            if "ansible" in rivals:
                self.tool(workload, "ansible-core, raw", lambda: Ansible(rack).look(n))

    def tools(self, rack, rivals, shared):
        made = {"ssh": lambda: Ssh(rack, shared=shared), "pyinfra": lambda: Pyinfra(rack), "ansible": lambda: Ansible(rack)}
        return [made[name]() for name in rivals]

    def put(self, rack, n, megabytes, where="", rivals=EVERY, prefix="v"):
        workload = f"W2 {megabytes} MB to {n} hosts, started{where}"
        objects = rack.objects("bench", "put", n)
        self.landfall.group(objects)
        for round in range(self.options.rounds):
            version = f"{prefix}{round + 1}"
            tar, digest = release(version, megabytes)
            path = f"{self.folder}/{version}.tar"
            with open(path, "wb") as file:
                file.write(tar)
            self.landfall.publish(version, tar, digest)
            self.ours(workload, lambda: self.landfall.deploy("put", version, "100%"))
            self.landfall.remove()
            for tool in self.tools(rack, rivals, shared=False):
                self.clean(rack, n)
                self.tool(workload, tool.name, lambda: tool.put(n, version, path, digest))
            self.clean(rack, n)
        self.landfall.forget(objects)

    def next(self, rack, n, megabytes):
        """The version after the one that a host has: one module and all zip times differ."""
        workload = f"W3 next {megabytes} MB version to {n} hosts"
        tars = {}
        for number in range(self.options.rounds + 1):
            tar, digest = jar(number, megabytes)
            tars[f"j{number}"] = (f"{self.folder}/j{number}.tar", digest)
            with open(tars[f"j{number}"][0], "wb") as file:
                file.write(tar)
            self.landfall.publish(f"j{number}", tar, digest)
        versions = list(tars)
        objects = rack.objects("bench", "next", n)
        self.landfall.group(objects)
        self.landfall.deploy("next", versions[0], "100%")
        for version in versions[1:]:
            before = rack.sent()
            self.ours(workload, lambda: self.landfall.roll(version))
            self.note(f"{workload}: MB that landfall sent", round((rack.sent() - before) / 1e6, 1), "bytes of the rack's interface")
        self.landfall.remove()
        self.landfall.forget(objects)
        fleet = Sessions(self.options.fleet, rack)
        fleet.ask("connect", n)
        for last, version in zip([None] + versions, versions):
            fleet.ask("load", version, tars[version][0], *([last] if last else []))
        fleet.ask("put", n, versions[0])
        for version in versions[1:]:
            self.table.add(workload, Sessions.name, *fleet.ask("put", n, version))
        fleet.ask("remove", n)
        fleet.end()
        rsync = Rsync(rack)
        for version in versions:
            rsync.unpack(version, tars[version][0])
        self.clean(rack, n)
        Ssh(rack, shared=True).put(n, versions[0], *tars[versions[0]])
        for last, version in zip(versions, versions[1:]):
            before = rack.sent()
            self.tool(workload, rsync.name, lambda: rsync.next(n, version, last))
            self.note(f"{workload}: MB that rsync sent", round((rack.sent() - before) / 1e6, 1), "bytes of the rack's interface")
        self.clean(rack, n)

    def roll(self, rack, n, by, where="", rivals=EVERY, prefix="r", serve=SERVE):
        workload = f"W4 roll {n} hosts by {by}, 1 MB, HTTP{where}"
        objects = rack.objects("bench", "roll", n)
        self.landfall.group(objects)
        releases = {}
        for version in [f"{prefix}{i}" for i in range(self.options.rounds + 1)]:
            tar, digest = release(version, 1, serve)
            releases[version] = (f"{self.folder}/{version}.tar", digest)
            with open(releases[version][0], "wb") as file:
                file.write(tar)
            self.landfall.publish(version, tar, digest)
        versions = sorted(releases)
        self.landfall.deploy("roll", versions[0], by)
        for version in versions[1:]:
            self.ours(workload, lambda: self.landfall.roll(version))
        self.landfall.remove()
        for tool in self.tools(rack, rivals, shared=True):
            self.clean(rack, n)
            Ssh(rack, shared=True).roll(n, n, versions[0], *releases[versions[0]])
            for version in versions[1:]:
                self.tool(workload, tool.name, lambda: tool.roll(n, by, version, *releases[version]))
        self.clean(rack, n)
        self.landfall.forget(objects)

    def sessions(self, rack, by, where=""):
        """The same three workloads by the fleet alone, beside ssh in the same rounds."""
        tars = {}
        for version, megabytes in [("w2", 37)] + [(f"r{i}", 1) for i in range(self.options.rounds + 1)]:
            tar, _ = release(version, megabytes)
            tars[version] = f"{self.folder}/sessions-{version}.tar"
            with open(tars[version], "wb") as file:
                file.write(tar)
        for n in sorted({50, len(rack.addresses)}):
            fleet = Sessions(self.options.fleet, rack)
            fleet.ask("connect", n)  # The program gets there once.
            for _ in range(self.options.rounds):
                fleet.ask("drop")
                self.table.add(f"W1 check {n} hosts, cold{where}", Sessions.name, *fleet.ask("connect", n))
                self.tool(f"W1 check {n} hosts, cold{where}", "ssh, xargs -P", lambda: Ssh(rack, shared=False).look(n))
                Ssh(rack, shared=True).look(n)
                self.table.add(f"W1 check {n} hosts, warm{where}", Sessions.name, *fleet.ask("look", n))
                self.tool(f"W1 check {n} hosts, warm{where}", "ssh, open masters", lambda: Ssh(rack, shared=True).look(n))
            fleet.end()
        fleet = Sessions(self.options.fleet, rack)
        fleet.ask("connect", 50)
        fleet.ask("load", "w2", tars["w2"])
        with open(tars["w2"], "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        for _ in range(self.options.rounds):
            self.table.add(f"W2 37 MB to 20 hosts{where}", Sessions.name, *fleet.ask("put", 20, "w2"))
            fleet.ask("remove", 20)
            self.tool(f"W2 37 MB to 20 hosts{where}", "ssh", lambda: Ssh(rack, shared=False).put(20, "w2", tars["w2"], digest))
            self.clean(rack, 20)
        versions = [f"r{i}" for i in range(self.options.rounds + 1)]
        for before, version in zip([None] + versions, versions):
            fleet.ask("load", version, tars[version], *([before] if before else []))
        fleet.ask("roll", 50, 50, versions[0])
        for version in versions[1:]:
            self.table.add(f"W4 roll 50 hosts by {by}, 1 MB, HTTP{where}", Sessions.name, *fleet.ask("roll", 50, by, version))
        fleet.ask("remove", 50)
        fleet.end()
        for version in versions:
            with open(tars[version], "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            roll = lambda: Ssh(rack, shared=True).roll(50, by, version, tars[version], digest)
            if version == versions[0]:
                roll()
            else:
                self.tool(f"W4 roll 50 hosts by {by}, 1 MB, HTTP{where}", "ssh", roll)
        self.clean(rack, 50)

    def clean(self, rack, n):
        stop = "if [ -e /srv/app/pid ]; then kill $(cat /srv/app/pid) 2>/dev/null; fi; rm -rf /srv/app /srv/up.tar; true"
        Ssh(rack, shared=True).each(rack.addresses[:n], stop)

    def note_memory(self, what):
        self.note(f"memory of the {what}, MB PSS", round(self.landfall.operator.memory(), 1), "smaps_rollup of the operator")

    def objects(self, count):
        """Memory with so many objects, and what they cost when nothing happens."""
        for n in range(count):
            self.landfall.client.create("bench", "deployments", {
                "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": f"idle-{n}"},
                "spec": {"projectRef": {"name": "app"}, "hostGroupRef": {"name": "nowhere"}, "version": "v0"},
            })
        time.sleep(20)
        self.note_memory(f"operator, {count} Deployments")
        before = self.landfall.operator.cpu()
        time.sleep(20)
        self.note(f"operator's CPU, {count} waiting Deployments, share of a core", round((self.landfall.operator.cpu() - before) / 20, 4), "over 20 s")

    def away(self, rack, milliseconds):
        """The same, farther away."""
        where = f", {milliseconds} ms each way"
        distance = Distance(rack, milliseconds)
        parts = {"W1": lambda: self.look(rack, 50, where, ("ssh",)), "W2": lambda: self.put(rack, 20, 37, where, ("ssh",), "away-v"),
                 "W4": lambda: self.roll(rack, 50, 10, where, ("ssh",), "away-r"), "the fleet alone": lambda: self.sessions(rack, 10, where)}
        try:
            for part, work in parts.items():
                before, begun = distance.cpu(), time.monotonic()
                work()
                share = (distance.cpu() - before) / (time.monotonic() - begun)
                self.note(f"the line of {milliseconds} ms itself during {part}, share of a core", round(share, 2), "CPU of bench/distance.py, which carries the packets of both sides")
        finally:
            distance.end()

    def run(self):
        time.sleep(5)
        self.note_memory("operator, idle")
        only = self.options.only.split(",") if self.options.only else None
        wanted = lambda name: only is None or name in only
        if wanted("latency"):
            latency.measure(self)
        if only is None or set(only) - {"scale", "objects"}:
            self.on_rack(wanted)
        if wanted("scale"):
            scale.measure(self, [int(n) for n in self.options.sizes.split(",")])
        if wanted("objects"):
            self.objects(1000)

    def on_rack(self, wanted):
        rack = self.rack(200 if wanted("look200") else 50)
        try:
            if wanted("latency"):
                latency.first_touch(self, rack)
            if wanted("look50"):
                self.look(rack, 50)
            if wanted("look200"):
                self.look(rack, 200)
            if wanted("put"):
                self.put(rack, 20, 37)
            if wanted("next"):
                self.next(rack, 20, 37)
            if wanted("roll"):
                self.roll(rack, 50, 10)
            if wanted("sessions"):
                self.sessions(rack, 10)
            if wanted("slow"):
                self.roll(rack, 50, 10, ", 1 s to start", ("ssh",), "slow-r", SLOW)
            if wanted("counts"):
                counts.measure(self, rack, 50, 10)
            if wanted("times"):
                times.measure(self, rack)
            if wanted("away"):
                self.away(rack, self.options.milliseconds)
        finally:
            rack.end()

    def end(self):
        self.landfall.operator.end()
        self.plane.end()
        self.limits.end()
        if self.racks != self.folder:
            shutil.rmtree(self.racks, ignore_errors=True)
        if self.options.keep:
            print(f"logs and data are kept in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--landfall", required=True, help="the program, built for release")
    arguments.add_argument("--fleet", required=True, help="bench/fleet.rs, built for release")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", help="look50,look200,put,next,roll,sessions,latency,slow,counts,times,away,scale,objects")
    arguments.add_argument("--hosts-on", metavar="DIR", help="files of the hosts lie in a folder below DIR, on its disk, instead of on tmpfs")
    arguments.add_argument("--milliseconds", type=int, default=20, help="distance of `away`, each way")
    arguments.add_argument("--sizes", default="50,200,500,1000", help="numbers of hosts of `scale`")
    arguments.add_argument("--keep", action="store_true", help="logs and data of the control plane and the operator stay")
    arguments.add_argument("--output", help="a folder for the table")
    options = arguments.parse_args()
    bench, failed = Bench(options), None
    try:
        bench.run()
    except Exception as error:
        # What was measured before is not lost.
        failed = error
        traceback.print_exc()
        bench.note("FAILED", str(error).replace("\n", " ")[:500], type(error).__name__)
    finally:
        bench.end()
    if options.hosts_on:
        bench.note("files of the hosts", f"on the disk of {options.hosts_on}", "--hosts-on")
    text = bench.table.text() + "\n"
    for section, rows in bench.sections.items():
        text += f"\n{section}\n\n{markdown(rows)}\n"
    notes = [{"also": what, "value": value, "how it was measured": bench.hows[what]} for what, value in bench.notes.items()]
    text += f"\n{markdown(notes)}\n"
    print("\n" + text)
    if options.output:
        os.makedirs(options.output, exist_ok=True)
        with open(f"{options.output}/table.md", "w") as file:
            file.write(text)
        with open(f"{options.output}/samples.json", "w") as file:
            json.dump({"rows": bench.table.rows, "sections": bench.sections, "notes": bench.notes, "how": bench.hows}, file, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
