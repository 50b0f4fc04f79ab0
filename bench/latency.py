"""How long people wait: from a request at the API server to a build's first line and to the first host touched, and from a line that a
build prints to whoever follows it; and a long log beside a plain pipe."""

import os
import statistics
import subprocess
import time

from landfall import release

PRINT_TIME = "date +%s.%N"


def measure(bench):
    folder = f"{bench.folder}/git"
    os.makedirs(folder)
    git = lambda *words: subprocess.run(["git", "-c", "user.name=b", "-c", "user.email=b@example.com", *words], cwd=folder, check=True, capture_output=True)
    git("init", "-q", "-b", "main", "work")
    with open(f"{folder}/work/file", "w") as file:
        file.write("x")
    git("-C", "work", "add", "-A")
    git("-C", "work", "commit", "-q", "-m", "one")
    git("clone", "-q", "--bare", "work", "origin.git")
    first_line(bench, f"file://{folder}/origin.git")
    long_log(bench, f"file://{folder}/origin.git")


def project(bench, name, url, script):
    bench.landfall.client.create("bench", "projects", {
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": {"name": name},
        "spec": {"source": {"url": url, "interval": "1h"}, "build": {"script": script, "artifacts": [{"path": "file"}], "tag": {"template": "v{number}"}},
                 "run": {"process": {"command": ["./file"]}}},
    })
    bench.landfall.client.until("bench", "projects", name, lambda object: object.get("status", {}).get("branches"))


def build(bench, project, name):
    """(the wall clock when it was asked for, seconds until Ready, its first line)"""
    asked, begun = time.time(), time.monotonic()
    object = bench.landfall.client.create("bench", "builds", {
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Build", "metadata": {"name": name},
        "spec": {"projectRef": {"name": project}, "revision": "main"}})
    ready = lambda build: any(c["type"] == "Ready" and c["status"] == "True" for c in build.get("status", {}).get("conditions", []))
    bench.landfall.client.until("bench", "builds", name, ready)
    return asked, time.monotonic() - begun, object["metadata"]["uid"]


def first_line(bench, url):
    project(bench, "quick", url, PRINT_TIME)
    waits, whole = [], []
    for n in range(10):
        asked, seconds, uid = build(bench, "quick", f"quick-{n}")
        log = subprocess.run(f"cat {bench.landfall.operator.data}/executor/{uid}/*/log", shell=True, check=True, capture_output=True, text=True).stdout
        waits.append((float(log.split()[0]) - asked) * 1000)
        whole.append(seconds * 1000)
    bench.note("from the request to a build script's first line, ms, median of 10", round(statistics.median(waits)))
    bench.note("from the request to Ready of a build that does nothing, ms, median of 10", round(statistics.median(whole)))


def long_log(bench, url):
    """1 GB that a build prints, beside the same through a plain pipe into a file."""
    script = "head -c 1000000000 /dev/zero | tr '\\0' 'x' | fold -w 100"
    project(bench, "loud", url, script)
    begun = time.monotonic()
    subprocess.run(["sh", "-c", f"{script} | cat >{bench.folder}/plain"], check=True)
    plain = time.monotonic() - begun
    os.remove(f"{bench.folder}/plain")
    before = bench.landfall.operator.memory()
    _, seconds, _ = build(bench, "loud", "loud-1")
    bench.note("1 GB of build log: seconds, and through a plain pipe into a file", f"{seconds:.1f}, {plain:.1f}")
    bench.note("memory of the operator, more after 1 GB of log, MB", round(bench.landfall.operator.memory() - before, 1))


def first_touch(bench, rack):
    """From the request for a Deployment to its first act on a host: when that host wrote down whom it obeys. The release waits in the store."""
    objects = rack.objects("bench", "touched", 1)
    bench.landfall.group(objects)
    version, (tar, digest) = "t1", release("t1", 1)
    bench.landfall.publish(version, tar, digest)
    waits, whole = [], []
    for _ in range(10):
        asked = time.time()
        whole.append(bench.landfall.deploy("touched", version, "100%") * 1000)
        waits.append((float(rack.run(0, "stat -c %.9Y /srv/landfall/bench.app/.landfall/fence")) - asked) * 1000)
        bench.landfall.remove()
    bench.landfall.forget(objects)
    bench.note("from the request to the first act on a host, ms, median of 10", round(statistics.median(waits)))
    bench.note("from the request to Ready of a Deployment on one host, 1 MB, HTTP, ms, median of 10", round(statistics.median(whole)))
