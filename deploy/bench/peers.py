"""Peers of libtorrent, one in each namespace: the rival of a swarm of nodes."""

import filecmp
import os
import subprocess
import time
from pathlib import Path

from watch import processor_seconds, wait_for

TORRENT = str(Path(__file__).resolve().parent / "torrent.py")
READY_SECONDS_MAX = 120
END_SECONDS_MAX = 30


class Peers:
    """`count` peers, of which the first has the image. They have nothing else: no older version is of use to them."""

    def __init__(self, sites, folder, image, count):
        self.folder, self.image, self.processes = folder, image, []
        try:
            self._start(sites, count)
        except BaseException:
            self.end()
            raise

    def _start(self, sites, count):
        os.makedirs(self.folder, exist_ok=True)
        torrent = f"{self.folder}/torrent"
        subprocess.run(("/usr/bin/python3", TORRENT, "make", self.image, torrent), check=True)
        addresses = ",".join(sites.address(node) for node in range(count))
        for node in range(count):
            data = os.path.dirname(self.image) if node == 0 else f"{self.folder}/{node}"
            os.makedirs(data, exist_ok=True)
            command = [*sites.within(node), "/usr/bin/python3", TORRENT, "peer", torrent, data,
                       addresses, str(node), self.folder, *(["--seed"] if node == 0 else [])]
            self.processes.append(subprocess.Popen(command))
        wait_for(lambda: all(os.path.exists(f"{self.folder}/ready.{node}") for node in range(count)),
                 READY_SECONDS_MAX, "libtorrent is ready")

    def fetch(self, limit, awaited, verified=False):
        """Let all fetch. Answers with when each awaited one had it, in seconds; `limit` for one that never had."""
        begun = time.monotonic()
        Path(f"{self.folder}/go").touch()
        done = {node: f"{self.folder}/done.{node}" for node in awaited}
        try:
            wait_for(lambda: all(map(os.path.exists, done.values())), limit, "all peers have it")
        except RuntimeError as late:
            print(f"  libtorrent: {late}", flush=True)
        had = {node: float(Path(sign).read_text(encoding="ascii")) for node, sign in done.items() if os.path.exists(sign)}
        if verified:
            self._verify(had)
        return [had[node] - begun if node in had else limit for node in awaited]

    def _verify(self, nodes):
        name = os.path.basename(self.image)
        wrong = [node for node in nodes if not filecmp.cmp(self.image, f"{self.folder}/{node}/{name}", shallow=False)]
        if wrong:
            raise RuntimeError(f"libtorrent: wrong bytes at {wrong}")

    def processor_seconds(self):
        """What all have used so far."""
        return processor_seconds(self.processes)

    def end(self):
        """End all."""
        Path(f"{self.folder}/stop").touch()
        for process in self.processes:
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
