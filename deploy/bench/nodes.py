"""Peerglass nodes, one in each namespace, whose clients are `curl` beside them."""

import hashlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pulls import Pulls
from watch import processor_seconds, wait_for

READY_SECONDS_MAX = 120
END_SECONDS_MAX = 30
JOIN_TRIES = 20
VOTERS = 3
SETTINGS = "[cluster]\ncopies = 1\n[log]\nlevel = \"warn\"\n"
RECORD = '{"disk_format":"raw","container_format":"bare"}'
# What of its log is shown of a node that failed its client.
LOG_LINES_SHOWN = 8
READ_BYTES = 1 << 20


class Nodes:
    """`count` nodes of one cluster. Images come in at the first, and the bytes are nowhere else until they are wanted.
    `others` says which nodes run another program, and which."""

    def __init__(self, sites, folder, count, binary, others=None):
        self.sites, self.folder, self.count, self.binary, self.processes = sites, folder, count, binary, []
        self.others = others or {}
        self.image, self.digest = None, None
        try:
            self._start()
        except BaseException:
            self.end()
            raise

    def _start(self):
        os.makedirs(self.folder, exist_ok=True)
        settings = f"{self.folder}/settings.toml"
        Path(settings).write_text(SETTINGS, encoding="ascii")
        self.where = [["--data-dir", f"{self.folder}/{node}", "--listen", "127.0.0.1:9292", "--peer-listen",
                       f"{self.sites.address(node)}:9293", "--config", settings] for node in range(self.count)]
        self.run(0, "cluster", "init", *self.where[0], "--site", "site0")
        self.serve(0)
        for node in range(1, self.count):
            site = f"site{self.sites.site_of[node]}"
            role = "voter" if node < VOTERS else "learner"
            self.join(node, self.run(0, "cluster", "token", "--role", role, "--site", site).strip())
            self.serve(node)

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

    def serve(self, node):
        """Start a node."""
        with open(f"{self.folder}/{node}.log", "wb") as log:
            command = [*self.sites.within(node), self.others.get(node, self.binary), "serve", *self.where[node]]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        wait_for(lambda: self.curl(node, "healthcheck", check=False) is not None, READY_SECONDS_MAX, "a node is ready")

    def put(self, path):
        """Upload at the first node, and wait until every node knows the image, which is the one that is fetched next."""
        made = self.curl(0, "v2/images", "-H", "Content-Type: application/json", "-d", RECORD)
        self.image = made.split('"id":"')[1].split('"')[0]
        self.curl(0, f"v2/images/{self.image}/file", "-T", path, "-H", "Content-Type: application/octet-stream")
        for node in range(1, self.count):
            wait_for(lambda: '"active"' in self.curl(node, f"v2/images/{self.image}"), READY_SECONDS_MAX, "it is active")
        with open(path, "rb") as image:
            self.digest = hashlib.file_digest(image, "sha256").hexdigest()

    def curl(self, node, path, *words, check=True):
        """Ask a node's API."""
        done = subprocess.run([*self._asking(node, path), *words], capture_output=True, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{path} at node {node}: curl says {done.returncode}")
        return done.stdout if done.returncode == 0 else None

    def _asking(self, node, path):
        return [*self.sites.within(node), "curl", "-sf", f"http://127.0.0.1:9292/{path}"]

    def fetch(self, limit, awaited, verified=False):
        """Have a client ask each node but the first. Answers with when the client of each awaited one had all of it, in
        seconds; `limit` for one that failed. Verifying costs processor time while the clock runs."""
        begun = time.monotonic()

        def one(node):
            command = [*self._asking(node, f"v2/images/{self.image}/file"), "-m", f"{limit:.3f}"]
            said = self._digest_of(command) if verified else subprocess.run([*command, "-o", "/dev/null"]).returncode
            seconds = time.monotonic() - begun
            if node in awaited and said != 0:
                self.tell(node, f"curl says {said} after {seconds:.1f} s")
            return seconds if said == 0 else limit

        nodes = range(1, self.count)
        with ThreadPoolExecutor(self.count) as pool:
            return [seconds for node, seconds in zip(nodes, pool.map(one, nodes)) if node in awaited]

    def pull(self, limit, awaited, streaming):
        """Have each node but the first fetch the image: because a client streams it, or because it is told to. Answers
        with when each awaited one says that it has all of it, in seconds; `limit` for one that never had."""
        pulls = {node: Pulls(self.sites, node) for node in awaited}
        begun = time.monotonic()

        def one(node):
            what = (f"images/{self.image}/file",) if streaming else (
                f"cluster/images/{self.image}/prefetch", "-H", "Content-Type: application/json", "-d", "{}")
            command = [*self._asking(node, f"v2/{what[0]}"), *what[1:], "-m", f"{limit:.3f}", "-o", "/dev/null"]
            with subprocess.Popen(command) as client:
                seconds = pulls[node].wait_for_one(begun, limit)
            if seconds == limit or client.returncode != 0:
                self.tell(node, f"curl says {client.returncode}, and it has not all of it after {seconds:.1f} s")
            return seconds if client.returncode == 0 else limit

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(one, awaited))

    def _digest_of(self, command):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            said = subprocess.run(["sha256sum"], stdin=client.stdout, capture_output=True, text=True, check=True).stdout
        if client.returncode == 0 and said.split()[0] != self.digest:
            raise RuntimeError(f"Peerglass: wrong bytes: {said.split()[0]} where {self.digest} was uploaded")
        return client.returncode

    def first_bytes(self, node, early, limit):
        """One client of one node. Answers with when it had the first byte, `early` bytes, and all; in seconds since
        `curl` began, by its own clock, so that starting it does not count."""
        command = [*self._asking(node, f"v2/images/{self.image}/file"), "--no-buffer", "-m", f"{limit:.3f}",
                   "-w", "%{stderr}%{time_starttransfer} %{time_total}"]
        digest, size, early_at = hashlib.sha256(), 0, None
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            while block := os.read(client.stdout.fileno(), READ_BYTES):
                size += len(block)
                if early_at is None and size >= early:
                    early_at = time.monotonic()
                digest.update(block)
            first, whole = (float(word) for word in client.stderr.read().split())
            begun = time.monotonic() - whole
        if client.returncode != 0:
            self.tell(node, f"curl says {client.returncode} after {whole:.1f} s and {size} bytes")
            raise RuntimeError("a first byte was to be measured, and the download failed")
        if digest.hexdigest() != self.digest:
            raise RuntimeError(f"Peerglass: wrong bytes at node {node}")
        return first, early_at - begun, whole

    def tell(self, node, what):
        """Say that a node failed its client, with the end of its log."""
        with open(f"{self.folder}/{node}.log", encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()[-LOG_LINES_SHOWN:]
        print("\n    ".join([f"  Peerglass, node {node}: {what}", *lines]), flush=True)

    def processor_seconds(self):
        """What all nodes have used so far, their clients not counted."""
        return processor_seconds(self.processes)

    def end(self):
        """End all."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(END_SECONDS_MAX)
