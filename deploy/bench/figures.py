"""The figures. Each is measured against its rival in the same run, alternating, and reported as a median."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rivals import curl_put, finish, floor_upload, requests_per_second, timed_download

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
from node import Client, Node  # noqa: E402

ROUNDS = 3
CREATORS = 8
UPLOADS_AT_ONCE = 8
BLOCK_BYTES = 4 << 20
PAGE = 25
OWNERS = 4
RARE = 30
# The pages that must not cost more in a large catalog.
PAGES = (
    ("default order", ""),
    ("one owner", "&owner=project-1"),
    ("a common name", "&name=common"),
    ("a rare name", "&name=rare"),
    ("by name", "&sort=name:asc"),
)
SETTLE_SECONDS_MAX = 120


class Figure:
    """One line of the table. `bar` and `value` have the same unit; `at_most` says which side is good.

    Without a bar the figure is told and never missed.
    """

    def __init__(self, name, ours, rival, value, bar, at_most, unit=""):
        self.name, self.ours, self.rival = name, ours, rival
        self.value, self.bar, self.at_most, self.unit = value, bar, at_most, unit

    @property
    def met(self):
        if self.bar is None:
            return True
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def row(self):
        told = f"| {self.name} | {self.ours} | {self.rival} | {self.value:.2f}{self.unit} |"
        if self.bar is None:
            return f"{told} none | |"
        sign = "≤" if self.at_most else "≥"
        return f"{told} {sign} {self.bar:g}{self.unit} | {'met' if self.met else 'MISSED'} |"


class Bench:
    """What all figures share: the programs, a scratch folder, nginx, the commands seen, the sizes."""

    def __init__(self, options, folder, nginx, log):
        self.binary, self.loader, self.folder, self.nginx, self.log = options.binary, options.loader, folder, nginx, log
        self.image_bytes, self.images_many = options.image_mib << 20, options.images
        self.images_million, self.run_seconds = options.images_million, options.run_seconds
        self.nodes, self.clusters = [], []

    def fresh(self, name):
        """A new folder on the disk that all files are on."""
        path = os.path.join(self.folder, name)
        os.makedirs(path)
        return path

    def begin(self, cluster):
        """Start a cluster that is ended with the bench, also when it does not get ready."""
        self.clusters.append(cluster)
        cluster.start()
        return cluster

    def node(self, name):
        node = Node(self.binary, os.path.join(self.folder, name), os.path.join(self.folder, f"{name}.log"))
        self.nodes.append(node)
        node.start()
        return node

    def end(self):
        for node in self.nodes:
            node.kill()
        for cluster in self.clusters:
            cluster.end()

    def random_file(self, name):
        """New random bytes every time: bytes the node holds already would cost it less."""
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            left = self.image_bytes
            while left > 0:
                left -= file.write(os.urandom(min(left, BLOCK_BYTES)))
        os.sync()
        return path

    def ask(self, node, method, path, body=None):
        client = Client(node.port)
        status, answer = client.ask(method, path, body)
        client.close()
        if status >= 300:
            raise RuntimeError(f"{method} {path} answered {status}: {answer[:200]!r}")
        return answer


def new_image(node, name="bench"):
    client = Client(node.port)
    image = client.create(name)
    client.close()
    return image


def settle(node):
    """Wait until a deleted image's space is back, so that the next round meets the same disk."""
    for _ in range(SETTLE_SECONDS_MAX):
        size = sum(path.stat().st_blocks for path in Path(node.data, "packs").rglob("*") if path.is_file()) * 512
        if size < 16 << 20:
            return
        time.sleep(1)


def upload(bench):
    """(a) One upload of random bytes against the floor."""
    node, ours, floor = bench.node("upload"), [], []
    for _ in range(ROUNDS):
        path = bench.random_file("random.bin")
        floor.append(floor_upload(bench.nginx, path, bench.log))
        os.sync()
        image = new_image(node)
        begun = time.monotonic()
        finish([curl_put(f"{node.url}/v2/images/{image}/file", path, bench.log, "upload, ours")])
        ours.append(time.monotonic() - begun)
        bench.ask(node, "DELETE", f"/v2/images/{image}")
        os.unlink(path)
        settle(node)
    node.kill()
    ours, floor = statistics.median(ours), statistics.median(floor)
    size = bench.image_bytes / (1 << 20)
    rival = f"{floor:.2f} s (nginx PUT + fsync, md5, sha512, b3sum)"
    yield Figure(f"upload of {size:.0f} MiB, time", f"{ours:.2f} s", rival, ours / floor, 1.5, True)


def download(bench):
    """(b) One download, every chunk verified, against sendfile."""
    node = bench.node("download")
    path = bench.random_file("served/bytes/image")
    image = new_image(node)
    url = f"{node.url}/v2/images/{image}/file"
    finish([curl_put(url, path, bench.log, "download, ours: upload before")])
    ours, rival = [], []
    for _ in range(ROUNDS):
        rival.append(timed_download(f"{bench.nginx.url}/bytes/image", bench.log, "download, nginx"))
        ours.append(timed_download(url, bench.log, "download, ours"))
    node.kill()
    os.unlink(path)
    ours, rival = statistics.median(ours), statistics.median(rival)
    size = bench.image_bytes / (1 << 20)
    yield Figure(
        f"download of {size:.0f} MiB, rate", f"{size / ours:.0f} MiB/s",
        f"{size / rival:.0f} MiB/s (nginx sendfile)", rival / ours, 0.4, False,
    )


def requests(bench):
    """(c) Small answers against nginx serving the same JSON as a file."""
    node = bench.node("requests")
    images = [new_image(node, f"image-{number}") for number in range(PAGE)]
    for name, path, bar in (
        ("GET one image", f"/v2/images/{images[3]}", 0.25),
        (f"GET a page of {PAGE}", f"/v2/images?limit={PAGE}", 0.1),
    ):
        body = bench.ask(node, "GET", path)
        file = f"answer-{len(body)}.json"
        Path(bench.nginx.served("json", file)).write_bytes(body)
        ours, rival = [], []
        for _ in range(ROUNDS):
            rival.append(requests_per_second(f"{bench.nginx.url}/json/{file}", bench.log, f"{name}, nginx"))
            ours.append(requests_per_second(f"{node.url}{path}", bench.log, f"{name}, ours"))
        ours, rival = statistics.median(ours), statistics.median(rival)
        beside = f"{rival:.0f}/s (nginx, same JSON)"
        yield Figure(f"{name}, {len(body)} bytes", f"{ours:.0f}/s", beside, ours / rival, bar, False)
    node.kill()


def create_some(port, numbers, total):
    """One of several processes that fill a catalog over a keep-alive connection."""
    client, every = Client(port), max(1, total // RARE)
    for number in numbers:
        name = "rare" if number % every == 0 else "common" if number % 2 == 1 else f"image-{number}"
        client.create(name, owner=f"project-{number % OWNERS}")
    client.close()


def fill(node, total):
    """Create `total` images: some names rare, some common, owners in turn. Returns images a second."""
    begun = time.monotonic()
    parts = [range(part, total, CREATORS) for part in range(CREATORS)]
    workers = [multiprocessing.Process(target=create_some, args=(node.port, part, total)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            raise RuntimeError("creating images failed")
    return total / (time.monotonic() - begun)


def many_images(bench):
    """(d) and (f): what a large catalog costs."""
    few, many = bench.node("few"), bench.node("many")
    fill(few, 100)
    rate = fill(many, bench.images_many)
    print(f"created {bench.images_many} images over {CREATORS} connections: {rate:.0f}/s", flush=True)
    for name, query in PAGES:
        path, sizes = f"/v2/images?limit={PAGE}{query}", []
        for node in (few, many):
            sizes.append(len(json.loads(bench.ask(node, "GET", path))["images"]))
        if sizes[0] != sizes[1]:
            raise RuntimeError(f"{path}: pages of {sizes} images cannot be compared")
        small, large = [], []
        for _ in range(ROUNDS):
            small.append(requests_per_second(few.url + path, bench.log, f"page, {name}, 100 images"))
            large.append(requests_per_second(many.url + path, bench.log, f"page, {name}, many images"))
        small, large = statistics.median(small), statistics.median(large)
        yield Figure(
            f"page of {sizes[0]}, {name}, of {bench.images_many} images: cost", f"{large:.0f}/s",
            f"{small:.0f}/s (of 100 images)", small / large, 1.5, True,
        )
    few.kill()
    starts = []
    for _ in range(ROUNDS):
        many.kill()
        starts.append(many.start())
    many.kill()
    seconds = statistics.median(starts)
    name = f"ready after kill -9 with {bench.images_many} images"
    yield Figure(name, f"{seconds:.2f} s", "none", seconds, 1.0, True, " s")


def memory(bench):
    """(e) Peak resident memory with eight uploads of different bytes at once."""
    node, uploads = bench.node("memory"), []
    for _ in range(UPLOADS_AT_ONCE):
        image = new_image(node)
        command = (
            f"openssl enc -aes-128-ctr -pbkdf2 -iter 1 -nosalt -pass pass:{os.urandom(8).hex()} -in /dev/zero"
            f" 2>/dev/null | head -c {bench.image_bytes}"
            " | curl -sf -o /dev/null -T - -H 'Content-Type: application/octet-stream'"
            f" {node.url}/v2/images/{image}/file"
        )
        bench.log.note(f"memory, {UPLOADS_AT_ONCE} of these at once", command)
        uploads.append(subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL))
    finish(uploads)
    peak = node.memory_peak_mib()
    node.kill()
    size = bench.image_bytes / (1 << 20)
    name = f"peak memory, {UPLOADS_AT_ONCE} uploads of {size:.0f} MiB at once"
    yield Figure(name, f"{peak:.0f} MiB", "none", peak, 256, True, " MiB")


FIGURES = {"upload": upload, "download": download, "requests": requests, "many": many_images, "memory": memory}
