#!/usr/bin/env python3
"""Restart three nodes one by one under load, as for an upgrade; no client may notice.

usage: rolling.py --binary PATH [--rounds 2] [--folder DIR]

Six clients upload, read, change and delete images through what stands for a load balancer: a request that one
node refuses (connection refused, 503) or breaks off is sent to the next. Each node in turn gets SIGTERM, ends,
is started, and is left to catch up. A request that no node would do, or that did something else, has failed
for good: there must be none. How often a single node said 5xx, refused or broke off is printed.
Prints one check a line and `N passed, N failed`.
"""

import argparse
import collections
import hashlib
import json
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid

from cluster import BROKEN, NAMES, Cluster
from kill import Report
from node import unmarked

CLIENTS = 6
PATIENCE_SECONDS = 30
RETRY_SECONDS = 0.1
CALM_SECONDS = 1.0
BODY_BYTES_MAX = 1 << 20
FAILURES_SHOWN = 5


def free_udp_ports(count):
    """Loopback ports for datagrams that nobody has right now, all different."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Balancer:
    """Requests of one client, on whichever node does them."""

    def __init__(self, cluster, counts, first):
        self.cluster, self.counts = cluster, counts
        self.at = first
        self.clients = {}

    def ask(self, method, path, body=None, kind="application/json"):
        """Returns (status, body, whether an earlier try may have done it already)."""
        deadline, tried = time.monotonic() + PATIENCE_SECONDS, False
        while time.monotonic() < deadline:
            name = NAMES[self.at % len(NAMES)]
            try:
                client = self.clients.get(name) or self.cluster.connect(name, PATIENCE_SECONDS)
                self.clients[name] = client
                status, said = client.ask(method, path, body, kind)
                if status < 500:
                    return status, said, tried
                self.counts[f"{status} to {method}"] += 1
                tried = True
            except ConnectionRefusedError:
                self.counts["refused"] += 1
                self.drop(name)
            except BROKEN as error:
                self.counts[f"broken {method}: {type(error).__name__}"] += 1
                tried = True
                self.drop(name)
            self.at += 1
            time.sleep(RETRY_SECONDS)
        return 0, b"", tried

    def drop(self, name):
        """Forget a connection."""
        if name in self.clients:
            self.clients.pop(name).close()


class Client(threading.Thread):
    """Takes one image after another through its life."""

    def __init__(self, cluster, number, stop):
        super().__init__(daemon=True)
        self.counts, self.failures, self.done = collections.Counter(), [], 0
        self.rng, self.stop = random.Random(number), stop
        self.balancer = Balancer(cluster, self.counts, number)

    def run(self):
        try:
            while not self.stop.is_set():
                self.life()
        except Exception as error:  # a client that ends early would look like one that is content
            self.failures.append(f"{type(error).__name__}: {error}")

    def expect(self, wanted, again, method, path, body=None, kind="application/json"):
        """A request that must succeed; `again` is what one says that was done already. Returns the body."""
        begun = time.monotonic()
        status, said, tried = self.balancer.ask(method, path, body, kind)
        self.done += 1
        if status != wanted and not (tried and status == again):
            seconds = time.monotonic() - begun
            self.failures.append(f"{method} {path}: {status} after {seconds:.1f} s: {said[:120]!r}")
        return said

    def life(self):
        image, data = str(uuid.uuid4()), unmarked(self.rng.randbytes(self.rng.randrange(1, BODY_BYTES_MAX)))
        record = {"id": image, "name": "rolling", "disk_format": "raw", "container_format": "bare"}
        path = f"/v2/images/{image}"
        self.expect(201, 409, "POST", "/v2/images", json.dumps(record))
        self.expect(204, 409, "PUT", f"{path}/file", data, "application/octet-stream")
        self.expect(204, 204, "PUT", f"{path}/tags/golden")
        patch = json.dumps([{"op": "replace", "path": "/name", "value": "rolled"}])
        self.expect(200, 200, "PATCH", path, patch, "application/openstack-images-v2.1-json-patch")
        seen = json.loads(self.expect(200, 200, "GET", path) or b"{}")
        if (seen.get("status"), seen.get("name"), seen.get("tags")) != ("active", "rolled", ["golden"]):
            self.failures.append(f"{image} was acknowledged, and is {seen}")
        got = self.expect(200, 200, "GET", f"{path}/file")
        if hashlib.sha256(got).digest() != hashlib.sha256(data).digest():
            self.failures.append(f"{image} has other bytes: {len(got)} of {len(data)}")
        self.expect(204, 404, "DELETE", path)


def restart(cluster, name):
    """SIGTERM, the end, a start, and a write through it. Returns (seconds to stop, seconds until it writes)."""
    node, begun = cluster.nodes[name], time.monotonic()
    node.stop()
    stopped = time.monotonic()
    node.start()
    cluster.await_writes([name])
    return stopped - begun, time.monotonic() - stopped


def play(cluster, rounds, report):
    """One run."""
    cluster.form()
    stop = threading.Event()
    clients = [Client(cluster, number, stop) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for number in range(1, rounds + 1):
        for name in NAMES:
            time.sleep(CALM_SECONDS)
            led = "the leader, " if cluster.leader() == name else ""
            down, back = restart(cluster, name)
            report.check(f"round {number}: {name}, {led}stopped in {down:.1f} s, writes again {back:.1f} s later", [])
    time.sleep(CALM_SECONDS)
    stop.set()
    for client in clients:
        client.join(PATIENCE_SECONDS * 2)
    counts = sum((client.counts for client in clients), collections.Counter())
    failures = [failure for client in clients for failure in client.failures]
    done = sum(client.done for client in clients)
    report.check("no client hangs", [client.name for client in clients if client.is_alive()])
    report.check("the clients were busy", [] if done else ["not one request"])
    report.check(f"{done} requests, {len(failures)} failed for good", failures[:FAILURES_SHOWN])
    raw = sum(count for what, count in counts.items() if what[:1] == "5")
    print(f"one node said: {raw} times 5xx; " + ", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    report, folder = Report(), tempfile.mkdtemp(prefix="peerglass-rolling.", dir=options.folder)
    cluster = Cluster(options.binary, folder, peer_ports=free_udp_ports(len(NAMES)))
    try:
        play(cluster, options.rounds, report)
    except (RuntimeError, *BROKEN) as error:
        report.check("the run comes to its end", [f"{type(error).__name__}: {error}"])
    finally:
        cluster.kill_all()
        if report.failed:
            print(f"kept for a look: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{report.passed} passed, {report.failed} failed")
    return report.failed != 0


if __name__ == "__main__":
    sys.exit(main())
