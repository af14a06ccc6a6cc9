#!/usr/bin/env python3
"""One image to many nodes over slow links, against libtorrent in the same run.

usage: swarm.py --binary PATH [--shapes 16,6+6,4+4+4] [--mbit 100] [--access-mbit 50] [--access-delay-ms 20]
                [--mib 512] [--rounds 3] [--folder DIR]

A shape is the number of nodes of each site; the first node of the first has the image. Every other node is asked for
it at once, by `curl`, while it has nothing of it. Rounds alternate; medians. "Ideal" is the size over the slowest link
that every byte has to cross. Files are in memory (--folder, default /dev/shm: nodes x size). Needs root.
With all nodes on one machine, its processors may be what is measured: how busy they were is printed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["PATH"] += ":/usr/sbin:/sbin"
from sites import Sites  # noqa: E402

HERE = Path(__file__).resolve().parent
BLOCK_BYTES = 4 << 20
READY_SECONDS_MAX = 120
JOIN_TRIES = 20
# A run ends after so many times the ideal, and counts as that.
IDEALS_MAX = 6


def wait_for(holds, seconds, what):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def busy():
    """Processor time of this machine, and how much of it was used."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:6]]
    return sum(ticks), sum(ticks[:3])


class Peers:
    """Peers of libtorrent."""

    def __init__(self, sites, folder, image, count):
        self.folder, self.processes = folder, []
        os.makedirs(folder, exist_ok=True)
        torrent = f"{folder}/torrent"
        subprocess.run(("/usr/bin/python3", HERE / "torrent.py", "make", image, torrent), check=True)
        addresses = ",".join(sites.address(node) for node in range(count))
        for node in range(count):
            data = os.path.dirname(image) if node == 0 else f"{folder}/{node}"
            os.makedirs(data, exist_ok=True)
            command = [*sites.within(node), "/usr/bin/python3", str(HERE / "torrent.py"), "peer", torrent, data,
                       addresses, str(node), folder, *(["--seed"] if node == 0 else [])]
            self.processes.append(subprocess.Popen(command))
        self.count = count
        wait_for(lambda: all(os.path.exists(f"{folder}/ready.{node}") for node in range(count)),
                 READY_SECONDS_MAX, "libtorrent is ready")

    def fetch(self, limit):
        """Let all fetch. Answers with when each had it, in seconds."""
        begun = time.monotonic()
        Path(f"{self.folder}/go").touch()
        wanted = [f"{self.folder}/done.{node}" for node in range(1, self.count)]
        try:
            wait_for(lambda: all(map(os.path.exists, wanted)), limit, "all peers have it")
        except RuntimeError:
            return [limit] * len(wanted)
        return [float(Path(path).read_text(encoding="ascii")) - begun for path in wanted]

    def end(self):
        """End all."""
        Path(f"{self.folder}/stop").touch()
        for process in self.processes:
            process.wait(30)


class Nodes:
    """Peerglass nodes, of which the first has the image."""

    def __init__(self, sites, folder, image, count, binary):
        self.sites, self.binary, self.processes, self.count = sites, binary, [], count
        os.makedirs(folder, exist_ok=True)
        self.settings = f"{folder}/settings.toml"
        Path(self.settings).write_text("[cluster]\ncopies = 1\n[log]\nlevel = \"warn\"\n", encoding="ascii")
        self.where = [["--data-dir", f"{folder}/{node}", "--listen", "127.0.0.1:9292", "--peer-listen",
                       f"{sites.address(node)}:9293", "--config", self.settings] for node in range(count)]
        self.run(0, "cluster", "init", *self.where[0], "--site", "site0")
        self.serve(0, folder)
        for node in range(1, count):
            site = f"site{sites.site_of[node]}"
            token = self.run(0, "cluster", "token", "--role", "voter" if node < 3 else "learner", "--site", site).strip()
            self.join(node, token)
            self.serve(node, folder)
        record = '{"disk_format":"raw","container_format":"bare"}'
        made = self.curl(0, "v2/images", "-H", "Content-Type: application/json", "-d", record)
        self.image = made.split('"id":"')[1].split('"')[0]
        self.curl(0, f"v2/images/{self.image}/file", "-T", image, "-H", "Content-Type: application/octet-stream")
        for node in range(1, count):
            wait_for(lambda: '"active"' in self.curl(node, f"v2/images/{self.image}"), READY_SECONDS_MAX, "it is active")

    def run(self, node, *words):
        """A command of the program, at a node."""
        done = subprocess.run([*self.sites.within(node), self.binary, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def join(self, node, token):
        """Join, again while another one is joining."""
        for left in reversed(range(JOIN_TRIES)):
            try:
                return self.run(node, "cluster", "join", token, *self.where[node])
            except RuntimeError:
                if left == 0:
                    raise
                time.sleep(0.2)

    def serve(self, node, folder):
        """Start a node."""
        with open(f"{folder}/{node}.log", "wb") as log:
            command = [*self.sites.within(node), self.binary, "serve", *self.where[node]]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        wait_for(lambda: self.curl(node, "healthcheck", check=False) is not None, READY_SECONDS_MAX, "a node is ready")

    def curl(self, node, path, *words, check=True):
        """Ask a node's API."""
        command = [*self.sites.within(node), "curl", "-sf", f"http://127.0.0.1:9292/{path}", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{path} at node {node}: curl says {done.returncode}")
        return done.stdout if done.returncode == 0 else None

    def fetch(self, limit):
        """Have a client ask each node. Answers with when each client had all of it, in seconds."""
        begun = time.monotonic()

        def one(node):
            command = [*self.sites.within(node), "curl", "-sf", "-m", str(limit), "-o", "/dev/null",
                       f"http://127.0.0.1:9292/v2/images/{self.image}/file"]
            return time.monotonic() - begun if subprocess.run(command).returncode == 0 else limit

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, range(1, self.count)))

    def end(self):
        """End all."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(30)


def round_of(kind, options, counts, image, folder):
    """One run of one kind. Answers with last over ideal, copies the seed sent, copies out of each site, how busy."""
    sites = Sites(counts, options.mbit, options.access_mbit, options.access_delay_ms)
    size = options.mib << 20
    slowest = min(options.mbit, options.access_mbit) if len(counts) > 1 else options.mbit
    ideal = size * 8 / (slowest * 1e6)
    peers = None
    try:
        delay = sites.build()
        if len(counts) > 1 and delay != options.access_delay_ms:
            print("  no netem in this kernel: sites are at no distance", flush=True)
        peers = (Peers(sites, folder, image, sum(counts)) if kind == "libtorrent"
                 else Nodes(sites, folder, image, sum(counts), options.binary))
        sites.count()
        all_before, used_before = busy()
        times = peers.fetch(ideal * IDEALS_MAX)
        all_after, used_after = busy()
        nodes, access = sites.sent()
        return {"ratio": max(times) / ideal, "seed": nodes[0] / size, "access": max(access, default=0) / size,
                "busy": (used_after - used_before) / (all_after - all_before)}
    finally:
        if peers is not None:
            peers.end()
        sites.remove()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--shapes", default="16,6+6,4+4+4")
    parser.add_argument("--mbit", type=int, default=100)
    parser.add_argument("--access-mbit", type=int, default=50)
    parser.add_argument("--access-delay-ms", type=int, default=20)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="peerglass-swarm.", dir=options.folder)
    try:
        os.makedirs(f"{folder}/seed")
        image = f"{folder}/seed/image"
        with open(image, "wb") as out:
            for _ in range(0, options.mib << 20, BLOCK_BYTES):
                out.write(os.urandom(BLOCK_BYTES))
        rows = []
        for shape in options.shapes.split(","):
            counts = [int(count) for count in shape.split("+")]
            said = {"Peerglass": [], "libtorrent": []}
            for _ in range(options.rounds):
                for kind, runs in said.items():
                    runs.append(round_of(kind, options, counts, image, f"{folder}/run"))
                    print(f"  {shape} {kind}: " + ", ".join(f"{key} {value:.3f}" for key, value in runs[-1].items()), flush=True)
            for key, name in (("ratio", "last node / ideal"), ("seed", "copies the seed sent"),
                              ("access", "copies out of the busiest site"), ("busy", "processors busy")):
                if key != "access" or len(counts) > 1:
                    ours, rival = (statistics.median(run[key] for run in said[kind]) for kind in said)
                    rows.append(f"| {shape} nodes: {name} | {ours:.2f} | {rival:.2f} |")
        print(f"\n{time.strftime('%Y-%m-%d')}, {options.mib} MiB, {options.mbit} Mbit/s a node, {options.access_mbit} Mbit/s a site\n")
        print("| Figure | Peerglass | libtorrent |\n| --- | --- | --- |")
        print("\n".join(rows))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
