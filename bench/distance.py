"""Distance between this side and a rack: every packet, of every tool alike, arrives some milliseconds later, each way.

The kernel here has no netem. So the cable of the rack is replaced by two taps with this program between them: it hands each frame on when
its time has come. TCP is that of the two ends: handshake, slow start and windows are as they are over such a line. It loses nothing, and
has no bound of its bandwidth but the processor.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TAP, NO_PI, VNET_HDR = 0x0002, 0x1000, 0x4000
# Checksums and segments are left to the ends, or each packet would cost what now a burst costs.
CSUM_AND_SEGMENTS = 0x1 | 0x2 | 0x4
FRAME = 70_000


def tap(name):
    """An interface of this network namespace, as long as the descriptor is open."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_PI | VNET_HDR))
    fcntl.ioctl(fd, TUNSETOFFLOAD, CSUM_AND_SEGMENTS)
    return fd


def ip(*words, inside=None):
    enter = ["nsenter", "-t", str(inside), "-n", "--"] if inside else []
    subprocess.run([*enter, "ip", *words], check=True)


class Distance:
    """The line of a rack, until the end."""

    def __init__(self, rack, milliseconds):
        self.rack, self.cable = rack, rack.interface
        self.name = self.cable.replace("lfh", "lfd")
        with open(f"/sys/class/net/{self.cable}/address") as file:
            card = file.read().strip()
        self.address = subprocess.run(["ip", "-o", "-4", "addr", "show", "dev", self.cable], check=True, capture_output=True, text=True).stdout.split()[3]
        near = tap(self.name)
        command = ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(rack.pid), "-n", "--", sys.executable, os.path.abspath(__file__)]
        self.process = subprocess.Popen([*command, str(near), str(milliseconds)], pass_fds=[near], stdout=subprocess.PIPE, text=True)
        os.close(near)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the line did not come up")
        # The hosts know this side by its hardware address.
        ip("link", "set", self.name, "address", card, "txqueuelen", "10000")
        ip("addr", "del", self.address, "dev", self.cable)
        ip("addr", "add", self.address, "dev", self.name)
        ip("link", "set", self.name, "up")
        ip("link", "set", "uplink", "nomaster", inside=rack.pid)
        ip("link", "set", "far", "master", "br0", "up", "txqueuelen", "10000", inside=rack.pid)
        rack.interface = self.name

    def cpu(self):
        """Seconds of CPU that it has used: it shares the machine with what is measured."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.terminate()
        self.process.wait()
        ip("link", "set", "uplink", "master", "br0", inside=self.rack.pid)
        ip("addr", "add", self.address, "dev", self.cable)
        self.rack.interface = self.cable


def carry(near, far, seconds):
    """Hands frames on, each when its time has come. What came first goes first: all wait equally long."""
    other, waiting = {near: far, far: near}, collections.deque()
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, fd, frame = waiting.popleft()
            try:
                os.write(fd, frame)
            except OSError:
                pass  # An interface that is down loses frames, as a cable does.
        left = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for fd in select.select([near, far], [], [], left)[0]:
            for _ in range(64):
                try:
                    frame = os.read(fd, FRAME)
                except OSError:
                    break
                waiting.append((time.monotonic() + seconds, other[fd], frame))


if __name__ == "__main__":
    near_fd, far_fd = int(sys.argv[1]), tap("far")
    os.set_blocking(near_fd, False)
    print("ready", flush=True)
    carry(near_fd, far_fd, float(sys.argv[2]) / 1000)
