"""The fleet alone, without Kubernetes: what its sessions cost beside the tools. It speaks to bench/fleet.rs over a pipe."""

import subprocess


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

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
