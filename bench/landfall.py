"""The same work by landfall itself: objects are written to the API server, and the clock stops when their status says that it is done."""

import hashlib
import io
import json
import os
import tarfile
import time
import zipfile

SERVE = "#!/bin/sh\nexec busybox httpd -f -p 8080 -h www\n"
# One that takes a second until it serves.
SLOW = "#!/bin/sh\nsleep 1\nexec busybox httpd -f -p 8080 -h www\n"


def release(version, megabytes, serve=SERVE):
    """One release as a build makes it: a program, its page, and ballast that does not compress. (tar, digest)"""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        ballast = b"".join(hashlib.sha256(f"{version}{n}".encode()).digest() for n in range(megabytes * (1 << 20) // 32))
        files = [("app", 0o755, serve.encode()), ("ballast", 0o644, ballast), ("run.json", 0o644, b"{}"), ("www/version", 0o644, version.encode())]
        for name, mode, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue(), hashlib.sha256(out.getvalue()).hexdigest()


def jar(number, megabytes):
    """A program in one zip, as a JVM build makes it: of 300 KB modules one differs from the number before, and all times do. (tar, digest)"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for module in range(megabytes * (1 << 20) // 300_000):
            of = number if module == 40 else 0
            content = b"".join(hashlib.sha256(f"{of}/{module}/{n}".encode()).digest() for n in range(300_000 // 32))
            archive.writestr(zipfile.ZipInfo(f"lib/module-{module}.jar", (2026, 11, 1 + number % 28, 12, number % 60, 0)), content)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        files = [("app", 0o755, SERVE.encode()), ("app.jar", 0o644, packed.getvalue()), ("run.json", 0o644, b"{}"), ("www/version", 0o644, f"j{number}".encode())]
        for name, mode, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            # rsync takes files of the same size and time for the same.
            info.mtime = number if name in ("app.jar", "www/version") else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue(), hashlib.sha256(out.getvalue()).hexdigest()


class Landfall:
    name = "landfall"

    def __init__(self, plane, namespace):
        plane.namespace(namespace)
        self.client, self.namespace, self.operator = plane.client, namespace, plane.operator(namespace)
        # Seconds that anything may take.
        self.patience = 120
        self.client.create(namespace, "projects", {
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": {"name": "app"},
            "spec": {"source": {"url": "https://git.invalid/app.git", "interval": "1h"}, "build": {"script": "true", "artifacts": [{"path": "app"}]},
                     "run": {"process": {"command": ["./app"]}}},
        })

    def publish(self, version, tar, digest, probe=True):
        """A version straight into the store, as a finished build would have left it."""
        run = {"process": {"command": ["./app"]}, "healthyDeadlineSeconds": 60, "terminationGracePeriodSeconds": 5}
        if probe:
            run["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/version"}, "successThreshold": 1}
        record = {"version": version, "commit": "c" * 40, "build": "b", "buildUid": "b", "digest": digest, "size": len(tar),
                  "builtAt": "2026-11-24T00:00:00Z", "run": run}
        store = f"{self.operator.data}/store"
        for path, content in ((f"releases/sha256/{digest}", tar), (f"versions/{self.namespace}/app/{version}", json.dumps(record).encode())):
            os.makedirs(os.path.dirname(f"{store}/{path}"), exist_ok=True)
            with open(f"{store}/{path}", "wb") as file:
                file.write(content)

    def group(self, objects):
        """Creates a group; seconds until every host has answered."""
        begun, name = time.monotonic(), objects[-1]["metadata"]["name"]
        for one in objects:
            plural = "secrets" if one["kind"] == "Secret" else "hostgroups"
            self.client.create(self.namespace, plural, one)
        total = len(objects[-1]["spec"]["hosts"])
        self.client.until(self.namespace, "hostgroups", name, lambda group: group.get("status", {}).get("hosts", {}).get("reachable") == total, self.patience)
        return time.monotonic() - begun

    def forget(self, objects):
        for one in reversed(objects):
            plural = "secrets" if one["kind"] == "Secret" else "hostgroups"
            self.client.delete(self.namespace, plural, one["metadata"]["name"])

    def deploy(self, group, version, at_once):
        """Seconds until the version runs and answers everywhere."""
        begun = time.monotonic()
        self.client.create(self.namespace, "deployments", {
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "app"},
            "spec": {"projectRef": {"name": "app"}, "hostGroupRef": {"name": group}, "version": version, "deletionPolicy": "Remove",
                     "strategy": {"rollingUpdate": {"maxUnavailable": at_once}}},
        })
        self.until_deployed(version)
        return time.monotonic() - begun

    def roll(self, version):
        begun = time.monotonic()
        self.client.patch(self.namespace, "deployments", "app", {"spec": {"version": version}})
        self.until_deployed(version)
        return time.monotonic() - begun

    def at_once(self, count):
        """Another bound of how many hosts are away at once; nothing begins with it."""
        self.client.patch(self.namespace, "deployments", "app", {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": count}}}})

    def until_deployed(self, version):
        def fits(object):
            status = object.get("status", {})
            for condition in status.get("conditions", []):
                if condition["type"] == "Stalled" and condition["status"] == "True" and condition.get("observedGeneration", 0) >= object["metadata"]["generation"]:
                    raise RuntimeError(f"{version}: {condition['reason']}: {condition['message']}")
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
            return ready and status.get("version") == version and status.get("observedGeneration") == object["metadata"]["generation"]
        self.client.until(self.namespace, "deployments", "app", fits, self.patience)

    def remove(self):
        self.client.delete(self.namespace, "deployments", "app")
