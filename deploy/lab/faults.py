"""Faults for a cluster in network namespaces: drawn from a seed, done to real processes, counted when they took.

`drawn` is the schedule: the same seed gives the same faults, victims by role, lengths and pauses. `Faults` does
them one after another. A fault counts only when its effect was seen: a process that died of SIGKILL or stood
still, packets that were dropped, a disk without a free byte.
"""

import collections
import os
import random
import signal
import time

from cluster import BROKEN, NAMES
from kill import listed

KINDS = ("kill leader", "one-way cut", "isolation", "pause leader", "full disk", "power loss", "rolling restart")
# One node has its data on a small disk.
SMALL = NAMES[2]
SETTLE_SECONDS_MAX = 60
BLOCK_BYTES = 1 << 20


def drawn(seed, short):
    """An endless schedule: rounds of all kinds in random order, with kills of the leader in between."""
    rng = random.Random(f"{seed} faults")
    scale = 0.4 if short else 1.0
    while True:
        others = [kind for kind in KINDS if kind != "kill leader"]
        rng.shuffle(others)
        for kind in others:
            for each in ("kill leader", kind):
                yield {
                    "kind": each,
                    "calm": rng.uniform(0.2, 2.0) * scale,
                    "seconds": rng.uniform(1, 10) * scale,
                    "leader": rng.random() < 0.6,
                    "pick": rng.randrange(len(NAMES)),
                    "other": rng.randrange(len(NAMES) - 1),
                    "toward": rng.random() < 0.5,
                    "kill within": rng.random() < 0.3,
                    "down": rng.choice((0.0, rng.uniform(0.1, 4) * scale)),
                }


class Faults:
    """Does faults, counts them, and complains of what should not have come of them."""

    def __init__(self, cluster, network, scene, loads, small_disk):
        self.cluster, self.network, self.scene, self.loads = cluster, network, scene, loads
        self.small_disk = small_disk
        self.fired = collections.Counter()
        self.notes = collections.Counter()
        self.slowest_return = 0.0
        self.pauses = []

    def do(self, fault):
        """One fault from its beginning to its end."""
        time.sleep(fault["calm"])
        getattr(self, fault["kind"].replace(" ", "_").replace("-", "_"))(fault)
        self.revive()

    def victim(self, fault):
        """The leader, or the node that was drawn."""
        leader = self.cluster.leader() if fault["leader"] else None
        return leader or NAMES[fault["pick"]]

    def others(self, name):
        """The nodes that are not this one."""
        return [other for other in NAMES if other != name]

    def kill_leader(self, fault):
        leader = self.cluster.leader()
        self.kill(leader or NAMES[fault["pick"]], fault, "kill leader" if leader else "kill another")

    def kill(self, name, fault, counted):
        """`kill -9`, a while without it, a start."""
        node = self.cluster.nodes[name]
        if name not in self.cluster.running():
            return
        node.process.send_signal(signal.SIGKILL)
        if node.process.wait() == -signal.SIGKILL:
            self.fired[counted] += 1
        node.kill()
        time.sleep(fault["down"])
        self.start([name])

    def one_way_cut(self, fault):
        name = self.victim(fault)
        other = self.others(name)[fault["other"]]
        self.network.cut(*((name, other) if fault["toward"] else (other, name)))
        self.while_cut(fault, "one-way cut")

    def isolation(self, fault):
        name = self.victim(fault)
        for other in self.others(name):
            self.network.cut(name, other)
            self.network.cut(other, name)
        self.while_cut(fault, "isolation")

    def while_cut(self, fault, counted):
        """Let a cut last; sometimes the leader dies meanwhile."""
        time.sleep(fault["seconds"] / 2)
        if fault["kill within"]:
            self.kill_leader(fault)
        time.sleep(fault["seconds"] / 2)
        if self.network.heal() > 0:
            self.fired[counted] += 1

    def pause_leader(self, fault):
        leader = self.cluster.leader()
        process = self.cluster.nodes[leader or NAMES[fault["pick"]]].process
        begun = time.monotonic_ns()
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(fault["seconds"])
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
                stopped = stat.read().rsplit(")", 1)[1].split()[0] == "T"
        finally:
            process.send_signal(signal.SIGCONT)
            self.pauses.append((leader or NAMES[fault["pick"]], begun, time.monotonic_ns()))
        if stopped:
            self.fired["pause leader" if leader else "pause another"] += 1

    def full_disk(self, fault):
        """Fill the small disk to the last byte; a node that ends of it is started when there is room again."""
        filler = os.path.join(self.small_disk, "filler")
        try:
            with open(filler, "wb", buffering=0) as file:
                for size in (BLOCK_BYTES, 4096):
                    try:
                        while file.write(bytes(size)) > 0:
                            pass
                    except OSError:
                        pass
            if os.statvfs(self.small_disk).f_bavail == 0:
                self.fired["full disk"] += 1
            time.sleep(max(fault["seconds"], 2))
        finally:
            os.unlink(filler)
        node = self.cluster.nodes[SMALL]
        if node.process is not None and node.process.poll() is not None:
            self.notes[f"the node with the full disk ended with code {node.process.returncode}"] += 1
            node.kill()

    def power_loss(self, fault):
        """All at once. Afterwards nothing is left of what was under way: later answers must not need it."""
        processes = [self.cluster.nodes[name].process for name in self.cluster.running()]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        self.scene.hold.set()
        if len(processes) == len(NAMES) and all(process.wait() == -signal.SIGKILL for process in processes):
            self.fired["power loss"] += 1
        self.cluster.kill_all()
        for load in self.loads:
            load.idle.wait(SETTLE_SECONDS_MAX)
        time.sleep(fault["down"])
        begun = time.monotonic()
        self.start(NAMES)
        self.cluster.await_writes()
        took = time.monotonic() - begun
        self.slowest_return = max(self.slowest_return, took)
        self.settle()
        self.scene.hold.clear()

    def settle(self):
        """Record that nothing is under way any more, once no image is being uploaded."""
        complaints = stuck(self.cluster, SETTLE_SECONDS_MAX)
        self.scene.complaints += complaints
        now = time.monotonic_ns()
        if not complaints and all(load.idle.is_set() for load in self.loads):
            self.scene.recorder.write("", (now, now), "settle", "done")

    def slow(self, recorder):
        """Requests that took long although their node was not paused, the slowest first."""
        found = []
        for node, (begun, ended), what in recorder.slow:
            if not any(node == name and begun < end and start < ended for name, start, end in self.pauses):
                found.append(f"{(ended - begun) / 1e9:.1f} s: {what} on node {node}, at {begun}")
        return sorted(found, key=lambda text: -float(text.split()[0]))

    def rolling_restart(self, fault):
        stopped = 0
        for name in NAMES:
            node = self.cluster.nodes[name]
            try:
                node.stop()
                stopped += 1
            except Exception as error:  # whatever it was, the node must be gone before the next start
                self.scene.complaints.append(f"stop of {name}: {error}")
                node.kill()
            self.start([name])
            self.cluster.await_writes([name])
        if stopped == len(NAMES):
            self.fired["rolling restart"] += 1

    def start(self, names):
        """Start nodes and wait until they are ready."""
        for name in names:
            self.cluster.nodes[name].launch()
        for name in names:
            try:
                self.cluster.nodes[name].await_ready()
            except RuntimeError as error:
                self.scene.complaints.append(f"start of {name}: {error}")

    def revive(self):
        """No node ends by itself: complain, and start it again."""
        for name, node in self.cluster.nodes.items():
            if node.process is not None and node.process.poll() is not None:
                code = node.process.returncode
                self.scene.complaints.append(f"{name} ended by itself with code {code}; see {node.log}")
                node.kill()
            if node.process is None:
                self.start([name])

    def heal(self):
        """Everything back to normal."""
        self.network.heal()
        self.revive()


def stuck(cluster, seconds):
    """Wait until no node shows an image in `saving`. Returns complaints."""
    deadline, left = time.monotonic() + seconds, {}
    for name in NAMES:
        while True:
            client = cluster.connect(name)
            try:
                left = listed(client)
            except (RuntimeError, *BROKEN) as error:
                left = {f"node {name}: {error}": "saving"}
            finally:
                client.close()
            left = [image for image, status in left.items() if status == "saving"]
            if not left:
                break
            if time.monotonic() > deadline:
                return [f"node {name} still shows images in saving after {seconds} s: {left[:5]}"]
            time.sleep(0.2)
    return []
