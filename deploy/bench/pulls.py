"""When a node has fetched an image, as it says itself."""

import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
from network import Inside  # noqa: E402

COUNT = re.compile(r'^peerglass_swarm_pulls_total\{result="ok"\} (\d+)', re.M)
POLL_SECONDS = 0.1
ASK_SECONDS_MAX = 5


class Pulls:
    """How many images a node has fetched, asked over one connection, so that asking costs little."""

    def __init__(self, sites, node):
        self.connection = Inside(lambda: sites.connect(node, 9292, ASK_SECONDS_MAX))
        self.before = self._count()

    def _count(self):
        self.connection.request("GET", "/metrics")
        return int(COUNT.search(self.connection.getresponse().read().decode())[1])

    def wait_for_one(self, begun, limit):
        """Wait until there is one more. Answers with how long after `begun` that was, or `limit`."""
        while (seconds := time.monotonic() - begun) < limit:
            if self._count() > self.before:
                return seconds
            time.sleep(POLL_SECONDS)
        return limit
