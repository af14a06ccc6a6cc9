#!/usr/bin/env python3
"""Kill a node at random instants under a mixed load, and check what it promised.

usage: kill.py --binary PATH [--kills 50] [--seed N] [--folder DIR]

Six clients upload (over HTTP and with curl), download, change and delete images. At a random instant the
node gets SIGKILL and is started again. After every restart: each acknowledged upload is there with its exact
bytes, each acknowledged delete is gone, no image is stuck in `saving`, and what was under way is either
complete or not there at all. At the end everything is deleted and the packs must shrink to nothing.

The seed chooses operations, sizes and instants; it is printed, and `--seed` takes it. (Threads and disk
still make every run a little different.) Prints one check a line and `N passed, N failed` at the end.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from node import Client, Node, unmarked

CLIENTS = 6
LIVE_IMAGES_MAX = 36
IMAGE_BYTES_MAX = 12 << 20
LOAD_SECONDS_MAX = 2.5
PAUSE_SECONDS_MAX = 120
RECLAIM_SECONDS_MAX = 180
LEFT_OVER_BYTES_MAX = 1 << 20
BROKEN = (OSError, http.client.HTTPException)

ACTIVE, UPLOADING, DELETING, GONE = "active", "uploading", "deleting", "gone"


def body_of(rng):
    """Random bytes, sometimes with holes, sometimes sharing a long middle with other images."""
    size = int(rng.triangular(1, IMAGE_BYTES_MAX, 1 << 20))
    kind = rng.random()
    if kind < 0.2:
        return unmarked(rng.randbytes(size // 3) + bytes(size // 3) + rng.randbytes(size // 3))
    if kind < 0.5:
        shared = random.Random(rng.randrange(4)).randbytes(IMAGE_BYTES_MAX // 2)
        return unmarked(rng.randbytes(size // 8 + 1) + shared + rng.randbytes(size // 8))
    return unmarked(rng.randbytes(size))


class Ledger:
    """What the clients were told, image by image. `expected` is what may be true after a crash."""

    def __init__(self):
        self.lock = threading.Lock()
        self.images = {}  # id -> [state, sha256, size]; state is the last thing asked for
        self.counts = {"uploads": 0, "downloads": 0, "deletes": 0, "cut": 0}

    def set(self, image, state, sha256=None, size=None):
        with self.lock:
            before = self.images.get(image, [None, None, None])
            self.images[image] = [state, sha256 or before[1], before[2] if size is None else size]

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def pick(self, rng):
        with self.lock:
            active = sorted(image for image, entry in self.images.items() if entry[0] == ACTIVE)
        return rng.choice(active) if active else None

    def live(self):
        with self.lock:
            return sum(entry[0] != GONE for entry in self.images.values())


class Load(threading.Thread):
    """One client. It works until told to stop, or until its connection breaks."""

    def __init__(self, node, ledger, seed, stop, folder, complaints):
        super().__init__(daemon=True)
        self.node, self.ledger, self.stop, self.complaints = node, ledger, stop, complaints
        self.rng = random.Random(seed)
        self.file = os.path.join(folder, f"upload-{seed % 1000003}")

    def run(self):
        try:
            client = Client(self.node.port)
            while not self.stop.is_set():
                self.step(client)
        except BROKEN:
            self.ledger.count("cut")
        except Exception as error:  # anything else is a finding, not a broken connection
            self.complaints.append(f"{type(error).__name__}: {error}")
        finally:
            if os.path.exists(self.file):
                os.unlink(self.file)

    def step(self, client):
        choice, full = self.rng.random(), self.ledger.live() >= LIVE_IMAGES_MAX
        if choice < 0.5 and not full:
            self.upload(client)
        elif choice < 0.75 and not full:
            self.download(client)
        else:
            self.delete(client)

    def upload(self, client):
        data = body_of(self.rng)
        image = client.create(f"load-{self.rng.randrange(1 << 30)}")
        self.ledger.set(image, UPLOADING, hashlib.sha256(data).hexdigest(), len(data))
        if self.rng.random() < 0.3:
            status = self.upload_by_curl(image, data)
        else:
            status = client.upload(image, data)
        if status != 204:
            raise RuntimeError(f"upload answered {status}")
        self.ledger.set(image, ACTIVE)
        self.ledger.count("uploads")

    def upload_by_curl(self, image, data):
        with open(self.file, "wb") as file:
            file.write(data)
        said = subprocess.run(
            ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-T", self.file, "--max-time", "120",
             "-H", "Content-Type: application/octet-stream", f"{self.node.url}/v2/images/{image}/file"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        if said.returncode != 0:
            raise ConnectionError(f"curl ended with {said.returncode}")
        return int(said.stdout)

    def download(self, client):
        image = self.ledger.pick(self.rng)
        if image is None:
            return
        status, received, digest = client.digest(image, hashlib.sha256)
        _, sha256, size = self.ledger.images[image]
        if status == 200 and (received, digest) != (size, sha256):
            raise RuntimeError(f"image {image} has other bytes than were uploaded")
        if status not in (200, 404):  # somebody else may have deleted it meanwhile
            raise RuntimeError(f"download answered {status}")
        self.ledger.count("downloads")

    def delete(self, client):
        image = self.ledger.pick(self.rng)
        if image is None:
            return
        self.ledger.set(image, DELETING)
        status, _ = client.ask("DELETE", f"/v2/images/{image}")
        if status not in (204, 404):
            raise RuntimeError(f"delete answered {status}")
        self.ledger.set(image, GONE)
        self.ledger.count("deletes")


def listed(client):
    """Every image the node lists: id -> status."""
    found, path = {}, "/v2/images?limit=200"
    for _ in range(1000):
        status, body = client.ask("GET", path)
        if status != 200:
            raise RuntimeError(f"list answered {status}")
        page = json.loads(body)
        found.update((image["id"], image["status"]) for image in page["images"])
        path = page.get("next")
        if path is None:
            return found
    raise RuntimeError("the list does not end")


def verify(node, ledger):
    """Compare the node with the ledger; settle what was unknown. Returns a list of complaints."""
    wrong, client = [], Client(node.port)
    there = listed(client)
    for image, status in there.items():
        if status not in ("active", "queued"):
            wrong.append(f"{image} is {status}")
        if image not in ledger.images and status != "queued":
            wrong.append(f"{image} is {status}, and nobody uploaded it")
    for image, (state, sha256, size) in sorted(ledger.images.items()):
        status = there.get(image)
        if state == GONE and status is not None:
            wrong.append(f"{image} was deleted, and is {status}")
        if state == ACTIVE and status != "active":
            wrong.append(f"{image} was acknowledged, and is {status}")
        if state == UPLOADING and status is None:
            wrong.append(f"{image} was created, and is not there")
        if status == "active":
            code, received, digest = client.digest(image, hashlib.sha256)
            if (code, received, digest) != (200, size, sha256):
                wrong.append(f"{image}: {code}, {received} of {size} bytes, or other bytes")
            ledger.set(image, ACTIVE)
        elif status == "queued":
            ledger.set(image, DELETING)
            client.ask("DELETE", f"/v2/images/{image}")
            ledger.set(image, GONE)
        elif state == DELETING:
            ledger.set(image, GONE)
    client.close()
    return wrong


def packs_bytes(data):
    """What the packs take on the disk."""
    total = 0
    for folder, _, names in os.walk(os.path.join(data, "packs")):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


class Report:
    """One check a line."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, complaints):
        if complaints:
            self.failed += 1
            print(f"FAIL {name}")
            for complaint in complaints[:10]:
                print(f"     | {complaint}")
        else:
            self.passed += 1
            print(f"ok   {name}")
        sys.stdout.flush()


def one_kill(node, ledger, rng, folder):
    """Load, kill, wait for the clients to notice. Returns (instant, complaints)."""
    stop, complaints = threading.Event(), []
    clients = [Load(node, ledger, rng.randrange(1 << 40), stop, folder, complaints) for _ in range(CLIENTS)]
    instant = rng.uniform(0.02, LOAD_SECONDS_MAX)
    for client in clients:
        client.start()
    time.sleep(instant)
    node.kill()
    stop.set()
    for client in clients:
        client.join(PAUSE_SECONDS_MAX)
        if client.is_alive():
            complaints.append("a client hangs although the node is dead")
    return instant, complaints


def empty(node, ledger):
    """Delete everything, then wait for the space. Returns complaints."""
    client = Client(node.port)
    for image in listed(client):
        client.ask("DELETE", f"/v2/images/{image}")
        ledger.set(image, GONE)
    left = packs_bytes(node.data)
    for _ in range(RECLAIM_SECONDS_MAX):
        left = packs_bytes(node.data)
        if left <= LEFT_OVER_BYTES_MAX:
            return []
        time.sleep(1)
    return [f"{left} bytes are still in packs"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.kills} kills, {CLIENTS} clients")
    rng, report, ledger = random.Random(seed), Report(), Ledger()
    folder = tempfile.mkdtemp(prefix="peerglass-kill.", dir=options.folder)
    node = Node(options.binary, os.path.join(folder, "data"), os.path.join(folder, "node.log"))
    try:
        node.start()
        for kill in range(1, options.kills + 1):
            instant, complaints = one_kill(node, ledger, rng, folder)
            seconds = node.start()
            complaints += verify(node, ledger)
            report.check(
                f"kill {kill} after {instant:.2f} s: ready in {seconds:.2f} s, {ledger.live()} images whole, none stuck",
                complaints,
            )
        report.check("everything deleted: no byte is left in packs", empty(node, ledger))
        node.stop()
        print(f"load: {ledger.counts}")
    except (RuntimeError, *BROKEN) as error:
        report.check(f"seed {seed}: the node answers", [str(error)])
    finally:
        node.kill()
        if report.failed:
            print(f"kept for a look: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{report.passed} passed, {report.failed} failed")
    return report.failed != 0


if __name__ == "__main__":
    sys.exit(main())
