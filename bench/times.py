"""How long an application is away, and how long nobody is told: it is killed, its probe fails, its host is lost, its host starts again.

The clock is this machine's, which all hosts share. "Seen": the moment at which a watcher of the API has the object whose status says so.
A host's reboot here: all of its processes are killed at once, it gets another boot id, sshd starts again. No kernel and no disk comes up
meanwhile, so what counts is the time after its sshd answers.
"""

import json
import socket
import statistics
import threading
import time

from landfall import release

# Its page lies outside the release: to take it away is to fail its probe, and touches no file that landfall guards.
SERVE = "#!/bin/sh\nmkdir -p /run/page && cp www/version /run/page/ && exec busybox httpd -f -p 8080 -h /run/page\n"
ROUNDS = 5
PATIENCE = 150


class Watch:
    """Keeps every state of one object with the time at which it came."""

    def __init__(self, client, namespace, plural, name):
        self.states, self.new, self.connection = [], threading.Condition(), client.connect()
        path = f"{client.path(namespace, plural)}?watch=1&fieldSelector=metadata.name%3D{name}&timeoutSeconds=3600"
        self.connection.request("GET", path)
        self.connection.sock.settimeout(None)
        self.thread = threading.Thread(target=self.follow, args=(self.connection.getresponse(),), daemon=True)
        self.thread.start()

    def follow(self, lines):
        for line in lines:
            with self.new:
                self.states.append((time.monotonic(), json.loads(line)["object"]))
                self.new.notify_all()

    def first(self, since, fits):
        """Seconds from then to the first state that fits; None where none came."""
        deadline, seen = since + PATIENCE, 0
        with self.new:
            while True:
                for at, object in self.states[seen:]:
                    if at >= since and fits(object.get("status", {})):
                        return at - since
                seen = len(self.states)
                if not self.new.wait(max(0, deadline - time.monotonic())):
                    return None


def connects(address, port):
    try:
        socket.create_connection((address, port), 0.5).close()
        return True
    except OSError:
        return False


def serves(address):
    """Whether the application itself answers: its page comes."""
    try:
        with socket.create_connection((address, 8080), 0.5) as connection:
            connection.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)
    except OSError:
        return False


def until(fits, since):
    """Seconds from then until it is so, asked every few milliseconds."""
    while not fits():
        if time.monotonic() > since + PATIENCE:
            return None
        time.sleep(0.005)
    return time.monotonic() - since


def ready(status):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


class Times:
    def __init__(self, bench, rack):
        self.bench, self.rack, self.client = bench, rack, bench.landfall.client
        self.deployments = Watch(self.client, "bench", "deployments", "app")
        self.groups = Watch(self.client, "bench", "hostgroups", "times")

    def note(self, what, samples, how):
        came = [sample for sample in samples if sample is not None]
        missed = len(samples) - len(came)
        value = f"{statistics.median(came):.2f} ({min(came):.2f} … {max(came):.2f})" if came else "–"
        self.bench.note(f"{what}, s", value + (f"; not within {PATIENCE} s: {missed} of {len(samples)}" if missed else ""), how)

    def at(self, i, command):
        """Runs a command on a host; when it was done, by the monotonic clock."""
        done = float(self.rack.run(i, f"{command} && date +%s.%N"))
        return time.monotonic() - (time.time() - done)

    def settle(self):
        """Until all is well again, and has been for a moment: acts of one round are none of the next."""
        begun = time.monotonic()
        until(lambda: all(serves(address) for address in self.rack.addresses[:3]), begun)
        self.client.until("bench", "deployments", "app", lambda object: ready(object.get("status", {})), PATIENCE)
        self.client.until("bench", "hostgroups", "times", lambda object: object.get("status", {}).get("hosts", {}).get("reachable") == 3, PATIENCE)
        time.sleep(3)

    def killed(self):
        again, seen, well = [], [], []
        for _ in range(ROUNDS):
            self.settle()
            since = self.at(0, "kill -KILL $(pgrep -x busybox)")
            again.append(until(lambda: serves(self.rack.addresses[0]), since))
            seen.append(self.deployments.first(since, lambda status: not ready(status) or status.get("rollout", {}).get("phases", {}).get("Healing")))
            well.append(self.deployments.first(since + (seen[-1] or 0), ready))
            # A keeper waits longer with each end until one has lived for ten minutes: each round has a process of its own.
            self.client.patch("bench", "deployments", "app", {"metadata": {"annotations": {"landfall.dev/redeploy": str(time.time())}}})
            time.sleep(2)
        self.note("killed application: it answers again", again, "kill -KILL on the host; its page is asked for over the network every 5 ms")
        self.note("killed application: status says that it is not ready", seen, "first state of the Deployment that is not Ready, or counts a host as Healing")
        self.note("killed application: Ready again after that", well, "first state of the Deployment with Ready after that")

    def failing(self):
        seen, well = [], []
        for _ in range(ROUNDS):
            self.settle()
            since = self.at(1, "mv /run/page/version /run/page/gone")
            seen.append(self.deployments.first(since, lambda status: not ready(status)))
            since = self.at(1, "mv /run/page/gone /run/page/version")
            well.append(self.deployments.first(since, ready))
        self.note("failing probe: status says so", seen, "its page is taken away; the probe asks each second and has failed after 3 tries, so about 3 s of it are the probe's own")
        self.note("probe that passes again: status says so", well, "its page is put back; one success is enough")

    def lost(self):
        for act, how in (("hangup", "all SSH sessions are killed and none is accepted"), ("cut", "every packet is dropped, without a word")):
            seen, well = [], []
            for _ in range(2):
                self.settle()
                if act == "hangup":
                    self.rack.act(2, "refuse")
                self.rack.act(2, act)
                since = time.monotonic()
                seen.append(self.groups.first(since, lambda status: status.get("hosts", {}).get("unreachable")))
                self.rack.act(2, "mend")
                since = time.monotonic()
                well.append(self.groups.first(since, lambda status: status.get("hosts", {}).get("reachable") == 3))
            self.note(f"lost host ({act}): status says so", seen, f"{how}; first state of the HostGroup with an unreachable host")
            self.note(f"lost host ({act}): reachable again after it answers", well, "mended; first state of the HostGroup with all reachable")

    def rebooted(self):
        again, well, address = [], [], self.rack.addresses[2]
        for _ in range(ROUNDS):
            self.settle()
            begun = time.monotonic()
            act = threading.Thread(target=self.rack.act, args=(2, "reboot"))
            act.start()
            until(lambda: not connects(address, 22), begun)
            until(lambda: connects(address, 22), begun)
            back = time.monotonic()
            again.append(until(lambda: serves(address), back))
            act.join()
            gone = self.deployments.first(begun, lambda status: not ready(status))
            ended = None if gone is None else self.deployments.first(begun + gone, ready)
            well.append(None if ended is None else begun + gone + ended - back)
        how = "processes killed, another boot id, sshd started again; from the moment its port accepts a connection"
        self.note("rebooted host: the application answers again", again, how)
        self.note("rebooted host: the Deployment is Ready again", well, how)


def measure(bench, rack):
    objects = rack.objects("bench", "times", 3)
    bench.landfall.group(objects)
    tar, digest = release("x1", 1, SERVE)
    bench.landfall.publish("x1", tar, digest)
    bench.landfall.deploy("times", "x1", "100%")
    times = Times(bench, rack)
    times.killed()
    times.failing()
    times.lost()
    times.rebooted()
    times.settle()
    bench.landfall.remove()
    bench.landfall.forget(objects)
