"""Clients that use a cluster at random and record every answer: several on each node, all on the same images.

They choose the ids of their images, so that even a create without an answer can be judged. An image with
several unanswered writes is only read from then on: its possible pasts would be too many to follow.
"""

import json
import random
import threading
import time
import uuid

from cluster import BROKEN
from recorder import PROBE, Body, ending_of, seen

CLIENTS_PER_NODE = 3
IMAGES_LIVE = 16
IMAGES_READ = 40
UNANSWERED_MAX = 3
PATIENCE_SECONDS = 20
THINK_SECONDS = 0.03
REFUSED_SECONDS = 0.2
PAGES_MAX = 100
WORDS = ("ubuntu", "debian", "golden", "test", "arm64", "x86")
# What a client does, and how often. Creates and deletes keep the number of images about the same.
MIX = {"patch": 16, "tag": 12, "untag": 6, "get": 22, "upload": 12, "download": 14, "part": 4, "list": 2, "churn": 12}


class Image:
    """What all clients know of an image."""

    def __init__(self, number, identity):
        self.number, self.id = number, identity
        self.bodies = []
        self.unanswered = 0
        self.created = self.deleted = False


class Scene:
    """What all clients share."""

    def __init__(self, cluster, recorder, seed, read_headers):
        self.cluster, self.recorder, self.seed = cluster, recorder, seed
        self.read_headers = read_headers
        self.lock = threading.Lock()
        self.images, self.live = [], []
        self.bodies = 0
        self.stop, self.hold = threading.Event(), threading.Event()
        self.complaints = []

    def new_image(self):
        """An image that nobody has asked for yet."""
        with self.lock:
            number = len(self.images)
            bits = random.Random(f"{self.seed} image {number}").getrandbits(128)
            image = Image(number, str(uuid.UUID(int=bits, version=4)))
            self.images.append(image)
            return image

    def new_body(self, image):
        """Bytes for an upload to it."""
        with self.lock:
            self.bodies += 1
            number = self.bodies
        body = Body(self.seed, number)
        with self.lock:
            image.bodies.append(body)
        return body

    def pick(self, rng, what):
        """An image to use; for writes one that can still be followed."""
        with self.lock:
            reads = what in ("get", "download", "part")
            usable = [image for image in self.live if reads or image.unanswered < UNANSWERED_MAX]
        return rng.choice(usable[-IMAGES_READ:]) if usable else None

    def full(self):
        """Whether there are enough images."""
        with self.lock:
            return sum(image.unanswered < UNANSWERED_MAX for image in self.live) >= IMAGES_LIVE


class Session:
    """A connection to one node, and the requests that are recorded."""

    def __init__(self, scene, node):
        self.scene, self.node = scene, node
        self.client = None

    def send(self, what, method, path, body=None, kind="application/json", headers=None):
        """One request. Returns (at, ending, status, body), of a broken answer what came of it."""
        begun = time.monotonic_ns()
        if self.client is None:
            self.client = self.scene.cluster.connect(self.node, PATIENCE_SECONDS)
            try:
                self.client.connection.connect()
            except OSError:
                self.client = None
                time.sleep(REFUSED_SECONDS)
                return (begun, time.monotonic_ns()), "never", 0, b""
        part, status, connection = b"", 0, self.client.connection
        try:
            sent = {} if body is None else {"Content-Type": kind}
            connection.request(method, path, body, sent | (headers or {}))
            answer = connection.getresponse()
            status = answer.status
            while piece := answer.read1(1 << 16):
                part += piece
            answer.read()  # frees the connection, which read1 does not
            if answer.length:  # http.client ends a cut body without a word
                raise ConnectionError(f"{answer.length} bytes are missing")
        except BROKEN as error:
            self.scene.recorder.note_break(error)
            self.client.close()
            self.client = None
            return (begun, time.monotonic_ns()), "unknown", status, part
        at = (begun, time.monotonic_ns())
        self.scene.recorder.note_answer(what, status, part)
        return at, ending_of(status), status, part

    def write(self, what, image, method, path, body=None, kind="application/json", **facts):
        """A request that changes an image. Returns its ending."""
        at, ending, status, _ = self.send(what, method, path, body, kind)
        if ending == "unknown":
            with self.scene.lock:
                image.unanswered += 1
        self.scene.recorder.write(self.node, at, what, ending, status, image.id, **facts)
        return ending

    def get(self, image):
        """Read a record. Returns it, or None."""
        at, ending, status, body = self.send("get", "GET", f"/v2/images/{image.id}", headers=self.scene.read_headers)
        document = seen(json.loads(body)) if ending == "done" else None
        ending = "done" if status == 404 else ending
        self.scene.recorder.write(self.node, at, "get", ending, status, image.id, saw=document)
        return document

    def download(self, image, first=None, last=None):
        """Read bytes, all or those of a range, and see which uploads they are (part) of. Returns the ending."""
        headers = {} if first is None else {"Range": f"bytes={first}-{last}"}
        at, ending, status, data = self.send("download", "GET", f"/v2/images/{image.id}/file", headers=headers)
        if status == 404:
            self.scene.recorder.write(self.node, at, "get", "done", status, image.id, saw=None)
            return "done"
        if status not in (200, 204, 206):
            data = b""
        with self.scene.lock:
            bodies = list(image.bodies)
        start, end = (first, last + 1) if status == 206 else (0, None)
        if ending == "done":
            fits = [body.sha512 for body in bodies if status != 204 and body.bytes[start:end] == data]
        else:
            fits = [body.sha512 for body in bodies if body.bytes.startswith(data, start)]
        self.scene.recorder.write(
            self.node, at, "download", ending, status, image.id, fits=fits, bytes=len(data),
        )
        return ending

    def list(self):
        """Read all records. Returns them by id, or None."""
        path, found, begun = "/v2/images?limit=1000", [], None
        for _ in range(PAGES_MAX):
            at, ending, status, body = self.send("list", "GET", path, headers=self.scene.read_headers)
            begun = begun or at[0]
            if ending != "done":
                return None
            page = json.loads(body)
            found += [seen(document) for document in page["images"] if document["name"] != PROBE]
            path = page.get("next")
            if path is None:
                break
        ids = [document["id"] for document in found]
        if len(set(ids)) != len(ids):
            self.scene.complaints.append(f"node {self.node} lists an image twice")
        self.scene.recorder.write(self.node, (begun, at[1]), "list", "done", status, saw=found)
        return {document["id"]: document for document in found}


class Load(threading.Thread):
    """One client of one node."""

    def __init__(self, scene, node, number):
        super().__init__(daemon=True)
        self.scene, self.session = scene, Session(scene, node)
        self.rng = random.Random(f"{scene.seed} client {node} {number}")
        self.idle = threading.Event()

    def run(self):
        try:
            while not self.scene.stop.is_set():
                if self.scene.hold.is_set():
                    self.idle.set()
                    time.sleep(THINK_SECONDS)
                    continue
                self.idle.clear()
                self.step()
                time.sleep(self.rng.expovariate(1 / THINK_SECONDS))
        except Exception as error:  # a broken connection is dealt with elsewhere: this is a finding
            self.scene.complaints.append(f"client of {self.session.node}: {type(error).__name__}: {error}")
        finally:
            self.idle.set()

    def step(self):
        """One request, or two."""
        what = self.rng.choices(list(MIX), list(MIX.values()))[0]
        if what == "list":
            self.session.list()
            return
        if what == "churn" and not self.scene.full():
            self.create()
            return
        image = self.scene.pick(self.rng, what)
        if image is None:
            self.create()
        else:
            getattr(self, what)(image)

    def create(self):
        image, ram = self.scene.new_image(), self.rng.randrange(4)
        record = {"name": f"image-{image.number}", "min_ram": ram}
        body = {**record, "id": image.id, "disk_format": "raw", "container_format": "bare"}
        ending = self.session.write("create", image, "POST", "/v2/images", json.dumps(body), record=record)
        with self.scene.lock:
            image.created = ending in ("done", "unknown")
            if image.created:
                self.scene.live.append(image)

    def churn(self, image):
        ending = self.session.write("delete", image, "DELETE", f"/v2/images/{image.id}")
        with self.scene.lock:
            if ending in ("done", "refused") and image in self.scene.live:
                self.scene.live.remove(image)

    def patch(self, image):
        changes = []
        for _ in range(self.rng.randrange(1, 3)):
            kind, name = self.rng.randrange(4), f"sim_{self.rng.choice(WORDS)}"
            changes.append([
                {"op": "replace", "path": "/name", "value": f"{self.rng.choice(WORDS)}-{self.rng.randrange(1000)}"},
                {"op": "replace", "path": "/min_ram", "value": self.rng.randrange(10_000)},
                {"op": "add", "path": f"/{name}", "value": str(self.rng.randrange(1000))},
                {"op": "remove", "path": f"/{name}"},
            ][kind])
        kind = "application/openstack-images-v2.1-json-patch"
        body = json.dumps(changes)
        self.session.write("patch", image, "PATCH", f"/v2/images/{image.id}", body, kind, changes=changes)

    def tag(self, image, method="PUT", what="add-tag"):
        tag = self.rng.choice(WORDS)
        self.session.write(what, image, method, f"/v2/images/{image.id}/tags/{tag}", tag=tag)

    def untag(self, image):
        self.tag(image, "DELETE", "remove-tag")

    def get(self, image):
        self.session.get(image)

    def upload(self, image):
        body = self.scene.new_body(image)
        path, kind = f"/v2/images/{image.id}/file", "application/octet-stream"
        self.session.write("upload", image, "PUT", path, body.bytes, kind, content=body.facts)

    def download(self, image):
        self.session.download(image)

    def part(self, image):
        first = self.rng.randrange(0, 60_000)
        self.session.download(image, first, first + self.rng.randrange(1, 30_000))
