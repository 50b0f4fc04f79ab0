"""The control plane and the operator that are measured, and a small client of the API. It measures nothing itself.

The plane is a real `landfall dev --no-operator --ephemeral`; the operator a real `landfall run` with the rights of manifests/.
"""

import base64
import functools
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
import urllib.parse

import yaml

GROUP = "/apis/landfall.dev/v1alpha1"
# The API server ends connections that are idle while other tools are measured.
IDLE = 20


class Client:
    """One kept connection to the API server as its administrator."""

    def __init__(self, kubeconfig):
        with open(kubeconfig) as file:
            config = yaml.safe_load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address = urllib.parse.urlparse(cluster["server"]).netloc
        self.context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self.context.load_cert_chain(pair.name)
        self.kept, self.used = self.connect(), time.monotonic()

    def connect(self):
        return http.client.HTTPSConnection(self.address, context=self.context, timeout=300)

    def ask(self, method, path, body=None, kind="application/json"):
        words = (method, path, json.dumps(body) if body is not None else None, {"Content-Type": kind})
        if time.monotonic() - self.used > IDLE:
            self.kept = self.connect()
        self.kept.request(*words)
        answer = self.kept.getresponse()
        text, self.used = answer.read(), time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return text

    def json(self, method, path, body=None, kind="application/json"):
        text = self.ask(method, path, body, kind)
        return json.loads(text) if text else None

    def text(self, path):
        return self.ask("GET", path).decode()

    def path(self, namespace, plural, name=""):
        core = plural in ("secrets", "namespaces", "events")
        base = "/api/v1" if core else "/apis/rbac.authorization.k8s.io/v1" if plural == "rolebindings" else GROUP
        where = "" if plural == "namespaces" else f"/namespaces/{namespace}"
        return f"{base}{where}/{plural}" + (f"/{name}" if name else "")

    def create(self, namespace, plural, body):
        return self.json("POST", self.path(namespace, plural), body)

    def get(self, namespace, plural, name):
        return self.json("GET", self.path(namespace, plural, name))

    def delete(self, namespace, plural, name):
        self.ask("DELETE", self.path(namespace, plural, name))
        while True:
            try:
                self.ask("GET", self.path(namespace, plural, name))
            except RuntimeError:
                return
            time.sleep(0.05)

    def patch(self, namespace, plural, name, body):
        return self.json("PATCH", self.path(namespace, plural, name), body, "application/merge-patch+json")

    def until(self, namespace, plural, name, fits, seconds=120):
        """Watches one object until it fits; the object."""
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            watch = self.connect()
            watch.timeout = seconds + 10
            watch.request("GET", f"{self.path(namespace, plural)}?watch=1&fieldSelector=metadata.name%3D{name}&timeoutSeconds={seconds}")
            for line in watch.getresponse():
                last = json.loads(line)["object"]
                if fits(last):
                    watch.close()
                    return last
        raise RuntimeError(f"{plural}/{name} is not what it should be after {seconds} s: {json.dumps((last or {}).get('status'), indent=1)[:3000]}")


def cpu(*pids):
    """Seconds of CPU that these processes have used so far, all their threads together; children are processes of their own."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def memory(pid):
    """PSS in MB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1000


def held(pid):
    return {"open files": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))}


class Plane:
    def __init__(self, landfall, folder):
        self.landfall, self.folder, ready = landfall, folder, os.path.join(folder, "ready")
        self.log = open(os.path.join(folder, "plane.log"), "w")
        command = [landfall, "dev", "--no-operator", "--ephemeral", "--ready-file", ready]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.process.poll() is not None:
                raise RuntimeError(f"landfall dev ended; see {self.log.name}")
            time.sleep(0.2)
        with open(ready) as file:
            self.kubeconfig = file.read().strip()
        self.client = Client(self.kubeconfig)

    def namespace(self, name):
        self.client.create(None, "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for role in ("landfall-tenant", "landfall-lease"):
            self.client.create(name, "rolebindings", {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "landfall", "namespace": "landfall-system"}],
            })

    def operator(self, namespace):
        return Operator(self, namespace)

    def cpu(self):
        """Seconds of CPU so far of the API server, its controllers and etcd."""
        return cpu(*self.pids)

    @functools.cached_property
    def pids(self):
        own, found = {self.process.pid}, True
        while found:
            found = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in own and parent(pid) in own}
            own |= found
        return own

    def end(self):
        self.process.terminate()
        self.process.wait()


class Operator:
    def __init__(self, plane, namespace):
        self.data = os.path.join(plane.folder, f"operator-{namespace}")
        self.log = open(os.path.join(plane.folder, f"operator-{namespace}.log"), "w")
        environment = dict(os.environ, KUBECONFIG=os.path.join(os.path.dirname(plane.kubeconfig), "operator.kubeconfig"))
        command = [plane.landfall, "run", "--namespaces", namespace, "--allow-file-git", "--lease-seconds", "5", "--data-dir", self.data]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def cpu(self):
        """Seconds of CPU so far, without its builds."""
        return cpu(self.process.pid)

    def memory(self):
        return memory(self.process.pid)

    def held(self):
        return held(self.process.pid)

    def most_memory(self):
        """The most RSS that it ever had, in MB."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1000

    def end(self):
        self.process.terminate()
        self.process.wait()
