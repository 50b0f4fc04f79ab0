"""The fleet alone, without Kubernetes: what its sessions cost beside the tools. It speaks to bench/fleet.rs over a pipe."""

import subprocess

import plane


class Sessions:
    """One process with the sessions to a rack's hosts."""

    name = "landfall, sessions alone"

    def __init__(self, program, rack):
        self.process = subprocess.Popen([program, rack.state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *words):
        """Wall and CPU seconds of one command."""
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split(" ", 1)
        if answer[0] != "ok":
            raise RuntimeError(f"{words}: {answer[1:] or 'the fleet ended'}")
        wall, cpu = answer[1].split()
        return float(wall), float(cpu)

    def cpu(self):
        return plane.cpu(self.process.pid)

    def memory(self):
        return plane.memory(self.process.pid)

    def held(self):
        return plane.held(self.process.pid)

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
