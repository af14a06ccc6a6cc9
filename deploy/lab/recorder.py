"""What the clients of a cluster asked and were told, as JSON lines that `judge` reads.

One clock for all of them: the monotonic one, in nanoseconds. `ending` is `done` (2xx, and 404 of a read),
`refused` (4xx), `never` (not sent, or no room), `unknown` (5xx, a timeout, a broken connection).
"""

import collections
import hashlib
import json
import random
import threading

from node import unmarked

FIELDS = ("id", "status", "name", "min_ram", "tags", "size", "checksum", "os_hash_value")
PROPERTY_PREFIX = "sim_"
# Images of a script's own, which no client knows of.
PROBE = "probe"
SAMPLES_MAX = 3
# Nodes give up on a write after 4 s, and on a read; what takes longer than this was not heeded by anything.
SLOW_NANOSECONDS = 7_000_000_000
SLOW_KEPT_MAX = 10_000
NO_ROOM = (413, 507)
BODY_BYTES_MAX = 1 << 20
SHARED_BYTES = 300 << 10


class Body:
    """The bytes of an upload; the same seed and number make the same bytes. Many share a long stretch."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed} {number}")
        size = int(rng.triangular(1, BODY_BYTES_MAX, 40_000))
        self.bytes = rng.randbytes(size)
        if rng.random() < 0.4:
            shared = random.Random(f"{seed} shared {rng.randrange(3)}").randbytes(SHARED_BYTES)
            self.bytes = self.bytes[: size // 4] + shared + self.bytes[: size // 8]
        self.bytes = unmarked(self.bytes)
        self.sha512 = hashlib.sha512(self.bytes).hexdigest()
        self.facts = {
            "size": len(self.bytes), "md5": hashlib.md5(self.bytes).hexdigest(), "sha512": self.sha512,
        }


def ending_of(status):
    """What an answer to a write tells of its outcome."""
    if 200 <= status < 300:
        return "done"
    if status in NO_ROOM:
        return "never"
    return "refused" if 400 <= status < 500 else "unknown"


def seen(document):
    """The part of a record that is judged."""
    return {key: value for key, value in document.items() if key in FIELDS or key.startswith(PROPERTY_PREFIX)}


class Recorder:
    """The history of one run."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="ascii")
        self.lock = threading.Lock()
        self.endings = collections.Counter()
        self.statuses = collections.Counter()
        self.breaks = collections.Counter()
        self.samples = collections.defaultdict(list)
        self.slow = []

    def write(self, node, at, what, ending, status=0, image="", **facts):
        """A request that has ended."""
        line = {"at": at, "node": node, "image": image, "what": what, "ending": ending, "status": status, **facts}
        text = json.dumps(line) + "\n"
        with self.lock:
            self.file.write(text)
            self.endings[ending] += 1
            if at[1] - at[0] > SLOW_NANOSECONDS and len(self.slow) < SLOW_KEPT_MAX:
                self.slow.append((node, at, f"{what} {ending} {status} {image}"))

    def note_answer(self, what, status, body):
        """Count an answer; keep a few of those that say the server failed."""
        with self.lock:
            self.statuses[status] += 1
            kept = self.samples[status]
            if status >= 500 and len(kept) < SAMPLES_MAX:
                kept.append(f"{what}: {' '.join(body[:300].decode(errors='replace').split())}")

    def note_break(self, error):
        """Count a connection that broke."""
        with self.lock:
            self.breaks[f"{type(error).__name__}: {error}"] += 1

    def close(self):
        """Nothing is recorded from here on."""
        self.file.close()
