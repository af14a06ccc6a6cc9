"""The figures of a cluster: three nodes against three members of etcd, and what a million images cost three nodes.

Both systems run all the time, and one at a time is loaded; the other one only beats its heart.
"""

import http.client
import json
import statistics
import time

from clusters import Etcd, Peerglass, load, memory_now_mib, until
from figures import PAGE, ROUNDS, Figure
from rivals import requests_per_second

CLIENTS = (1, 16, 256)
RECORD_BYTES = 512
# Clients of etcd have a connection each, as those of Peerglass do. Where they are more than this, etcd is asked over so
# few as well, which its clients share.
SHARED_CONNECTIONS = 16
# etcd: how many keys reads go over, as many as a page of images that Peerglass is asked for.
KEYS = 1_000
# No run writes more keys than this, so that runs do not write one another's.
RUN_KEYS_MAX = 4_000_000
# Before each run: what the one before it left to be written and merged must not be this one's burden.
SETTLE_SECONDS = 3
KILLS = 5
PROBE_SECONDS_MAX = 30
PROBE_PAUSE_SECONDS = 0.01
# One request may hang on a leader that is dead. Longer than the 5 s after which a node answers anyway.
PROBE_ANSWER_SECONDS_MAX = 8
PAGES = (("default order", ""), ("by name", "&sort=name:asc"))
IMPORT_CLIENTS = 64
# These runs of the load generator end at their count; this only ends one that hangs.
IMPORT_SECONDS_MAX = 3_600
CATCH_UP_SECONDS_MAX = 600
FAILOVER_SECONDS_MAX = 3.0


class Runs:
    """What several runs of one kind said; their medians."""

    def __init__(self):
        self.said = []

    def median(self, field):
        return statistics.median(run[field] for run in self.said)


def cluster(bench):
    """(g) Writes and linearizable reads against etcd, the extra hop, and how long a dead leader is missed."""
    ours = bench.begin(Peerglass(bench.binary, bench.fresh("cluster-ours")))
    etcd = bench.begin(Etcd(bench.fresh("cluster-etcd"), bench.log))
    yield from writes_and_reads(bench, ours, etcd)
    etcd.end()
    yield from failover(ours)
    ours.end()


def writes_and_reads(bench, ours, etcd):
    """Alternating runs; leaders are looked up anew for each, because an election may happen at any time."""
    runs, keys_written = {}, KEYS
    first = load(
        bench.loader, bench.log, "etcd: the keys that are read", "etcd-write", [etcd.endpoint(etcd.leader())], 16,
        "--requests", str(KEYS), "--record-bytes", str(RECORD_BYTES), "--warm-up-seconds", "0",
    )
    if first["requests"] < KEYS:
        raise RuntimeError(f"only {first['requests']} keys were written")

    def run(kind, clients, target, endpoint, *more):
        label = f"{kind}, {clients} clients"
        time.sleep(SETTLE_SECONDS)
        said = load(
            bench.loader, bench.log, label, target, [endpoint], clients,
            "--seconds", str(bench.run_seconds), "--record-bytes", str(RECORD_BYTES), *more,
        )
        runs.setdefault((kind, clients), Runs()).said.append(said)
        print(f"  {label}: {said['per_second']:.0f}/s, p50 {said['p50_ms']:.2f} ms, p99 {said['p99_ms']:.2f} ms", flush=True)

    for _ in range(ROUNDS):
        for clients in CLIENTS:
            leads, etcd_leads = ours.leader(), etcd.leader()
            follows, etcd_follows = (leads + 1) % len(ours.nodes), (etcd_leads + 1) % len(etcd.processes)
            run("write at the leader", clients, "peerglass-write", ours.endpoint(leads))
            run("write at a follower", clients, "peerglass-write", ours.endpoint(follows))
            run("read at a follower", clients, "peerglass-read", ours.endpoint(follows))
            for connections in connections_of(clients):
                over = ["--connections", str(connections)]
                first = ["--first", str(keys_written)]
                run(f"etcd write over {connections}", clients, "etcd-write", etcd.endpoint(etcd_leads), *over, *first)
                keys_written += RUN_KEYS_MAX
                first = ["--first", str(KEYS)]
                run(f"etcd read over {connections}", clients, "etcd-read", etcd.endpoint(etcd_follows), *over, *first)
    for kind, rival in (("write at the leader", "etcd write"), ("read at a follower", "etcd read")):
        for clients in CLIENTS:
            for connections in connections_of(clients):
                there = runs[f"{rival} over {connections}", clients]
                yield from compared(kind, clients, runs[kind, clients], there, connections)
    for clients in CLIENTS:
        there, here = (runs[f"write at {place}", clients].median("p50_ms") for place in ("a follower", "the leader"))
        name = f"write at a follower, {clients} clients: the extra hop"
        yield Figure(name, f"{there:.2f} ms", f"{here:.2f} ms (at the leader)", there - here, None, True, " ms")


def connections_of(clients):
    """Over how many connections so many clients ask etcd."""
    return [clients] if clients <= SHARED_CONNECTIONS else [clients, SHARED_CONNECTIONS]


def compared(kind, clients, ours, etcd, connections):
    """Two figures of one kind of request: how many, and how late the slowest hundredth is."""
    name = f"{kind}, {clients} client{'s' if clients > 1 else ''}"
    if connections < clients:
        name += f", etcd's share {connections} connections"
    rates = ours.median("per_second"), etcd.median("per_second")
    yield Figure(name, f"{rates[0]:.0f}/s", f"{rates[1]:.0f}/s (etcd)", rates[0] / rates[1], None, False)
    late = ours.median("p99_ms"), etcd.median("p99_ms")
    beside = f"{late[1]:.1f} ms (etcd)"
    yield Figure(f"{name}: p99", f"{late[0]:.1f} ms", beside, late[0] / late[1], None, True)


def failover(ours):
    """kill -9 of the leader: how long until another node has written an image again. The longest of several."""
    waited = []
    for _ in range(KILLS):
        leads = ours.leader()
        others = [node for at, node in enumerate(ours.nodes) if at != leads]
        ours.nodes[leads].kill()
        waited.append(seconds_until_written(others[0].port))
        print(f"  leader killed: written elsewhere after {waited[-1]:.2f} s", flush=True)
        ours.nodes[leads].start()
        ours.leader()
    name = f"kill -9 of the leader, until a write elsewhere succeeds, longest of {KILLS}"
    median = f"{statistics.median(waited):.2f} s in the middle"
    yield Figure(name, f"{max(waited):.2f} s", median, max(waited), FAILOVER_SECONDS_MAX, True, " s")


def seconds_until_written(port):
    """Create images at this node until one is created. Only a created image counts, whatever the answers were."""
    begun = time.monotonic()
    body = json.dumps({"name": "probe", "disk_format": "raw", "container_format": "bare"})
    while (waited := time.monotonic() - begun) < PROBE_SECONDS_MAX:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_ANSWER_SECONDS_MAX)
        try:
            connection.request("POST", "/v2/images", body, {"Content-Type": "application/json"})
            if connection.getresponse().status == 201:
                return time.monotonic() - begun
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(PROBE_PAUSE_SECONDS)
    raise RuntimeError(f"no write succeeded within {waited:.0f} s after the leader was killed")


def million(bench):
    """(h) Many images in three nodes: memory, pages, a restart. Takes minutes and is not part of a plain run."""
    few = bench.begin(Peerglass(bench.binary, bench.fresh("million-few")))
    create(bench, few, KEYS)
    many = bench.begin(Peerglass(bench.binary, bench.fresh("million-many")))
    said = create(bench, many, bench.images_million)
    print(
        f"created {said['requests']} images over {IMPORT_CLIENTS} connections to three nodes: "
        f"{said['per_second']:.0f}/s, p99 {said['p99_ms']:.1f} ms", flush=True,
    )
    until_equal(many)
    images = f"{bench.images_million} images"
    memory = [memory_now_mib(node) for node in many.nodes]
    peak = [node.memory_peak_mib() for node in many.nodes]
    name = f"resident memory of a node with {images}, the largest of three"
    yield Figure(name, f"{max(memory):.0f} MiB", f"{max(peak):.0f} MiB while they came", max(memory), None, True, " MiB")
    for name, query in PAGES:
        path = f"/v2/images?limit={PAGE}{query}"
        small, large = [], []
        for _ in range(ROUNDS):
            for system, rates in ((few, small), (many, large)):
                follows = (system.leader() + 1) % len(system.nodes)
                url = f"http://{system.endpoint(follows)}{path}"
                rates.append(requests_per_second(url, bench.log, f"page, {name}, at a follower"))
        small, large = statistics.median(small), statistics.median(large)
        yield Figure(
            f"page of {PAGE}, {name}, at a follower, {images}: cost", f"{large:.0f}/s",
            f"{small:.0f}/s (of {KEYS} images)", small / large, None, True,
        )
    yield from restarts(many, images)
    few.end()
    many.end()


def create(bench, cluster, images):
    """Create so many images through the API of all three nodes. Returns what the load generator said."""
    endpoints = [cluster.endpoint(at) for at in range(len(cluster.nodes))]
    said = load(
        bench.loader, bench.log, f"create {images} images", "peerglass-write", endpoints, IMPORT_CLIENTS,
        "--requests", str(images), "--seconds", str(IMPORT_SECONDS_MAX), "--warm-up-seconds", "0",
        "--record-bytes", str(RECORD_BYTES),
    )
    if said["requests"] < images:
        raise RuntimeError(f"only {said['requests']} of {images} images were created")
    return said


def until_equal(cluster):
    """Wait until every node has applied what the others have, so that figures are of full nodes."""

    def equal():
        said = [cluster.status(node) for node in cluster.nodes]
        return True if None not in said and len({status["applied"] for status in said}) == 1 else None

    until(equal, "all nodes have applied the same entries", CATCH_UP_SECONDS_MAX)


def restarts(cluster, images):
    """One follower after kill -9, then all three at once: until they say that they are ready."""
    alone = []
    for _ in range(ROUNDS):
        follows = (cluster.leader() + 1) % len(cluster.nodes)
        cluster.nodes[follows].kill()
        alone.append(cluster.nodes[follows].start())
    seconds = statistics.median(alone)
    yield Figure(f"a follower is ready after kill -9, {images}", f"{seconds:.2f} s", "none", seconds, None, True, " s")
    cluster.end()
    begun = time.monotonic()
    for node in cluster.nodes:
        node.start()
    cluster.leader()
    seconds_until_written(cluster.nodes[0].port)
    seconds = time.monotonic() - begun
    yield Figure(f"all three write again after kill -9 of all, {images}", f"{seconds:.2f} s", "none", seconds, None, True, " s")


FIGURES = {"cluster": cluster, "million": million}
# What a plain run leaves out, because it takes many minutes.
SLOW = {"million"}
