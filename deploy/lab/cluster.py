"""Three nodes that are one cluster, for Python scripts: form it, ask who leads, wait until it has settled."""

import http.client
import json
import subprocess
import time

from network import Inside
from node import Client, Node

NAMES = ("a", "b", "c")
FORMED_SECONDS_MAX = 60
SETTLED_SECONDS_MAX = 60
ASK_SECONDS_MAX = 5
BROKEN = (OSError, http.client.HTTPException)


class Cluster:
    """Nodes by name. `network` is None for nodes on loopback."""

    def __init__(self, binary, folder, network=None, peer_ports=None):
        self.binary, self.folder, self.network = binary, folder, network
        self.nodes = {}
        for number, name in enumerate(NAMES):
            peer = f"127.0.0.1:{peer_ports[number]}" if network is None else f"{network.address(name)}:9293"
            node = Node(binary, f"{folder}/{name}", f"{folder}/{name}.log", "--peer-listen", peer)
            if network is not None:
                node.port, node.within = 9292, network.within(name)
            self.nodes[name] = node

    def form(self):
        """`init` and `join` with tokens, as an operator would; wait for three voters."""
        first = self.nodes[NAMES[0]]
        self._command(first, "init", *self._where(first))
        first.start()
        for name in NAMES[1:]:
            token = self._command(first, "token", "--endpoint", first.url).strip()
            self._command(self.nodes[name], "join", token, *self._where(self.nodes[name]))
            self.nodes[name].start()
        deadline = time.monotonic() + FORMED_SECONDS_MAX
        while time.monotonic() < deadline:
            status = self.status(NAMES[0])
            if status is not None and sum(member["voter"] for member in status["members"]) == len(NAMES):
                return
            time.sleep(0.1)
        raise RuntimeError("three nodes did not become three voters")

    def connect(self, name, seconds=ASK_SECONDS_MAX):
        """A client of that node."""
        port = self.nodes[name].port
        client = Client(port)
        if self.network is not None:
            client.connection = Inside(lambda: self.network.connect(name, port, seconds))
        client.connection.timeout = seconds
        return client

    def ask(self, name, method, path, body=None, seconds=ASK_SECONDS_MAX):
        """One request on a connection of its own. None when it broke."""
        client = self.connect(name, seconds)
        try:
            return client.ask(method, path, body)
        except BROKEN:
            return None
        finally:
            client.close()

    def status(self, name):
        """What a node knows of the cluster; None when it does not answer."""
        answer = self.ask(name, "GET", "/v2/cluster")
        return json.loads(answer[1])["status"] if answer is not None and answer[0] == 200 else None

    def leader(self):
        """The node that others take for the leader at the highest term, or None."""
        said = [status for status in map(self.status, self.running()) if status is not None and status["leader"]]
        if not said:
            return None
        newest = max(said, key=lambda status: status["term"])
        for name in self.running():
            status = self.status(name)
            if status is not None and status["node"] == newest["leader"]:
                return name
        return None

    def running(self):
        """Nodes whose process is there."""
        return [name for name, node in self.nodes.items() if node.process is not None and node.process.poll() is None]

    def await_writes(self, names=NAMES, seconds=SETTLED_SECONDS_MAX):
        """Wait until a write succeeds on each of these nodes. Returns the seconds it took."""
        begun = time.monotonic()
        for name in names:
            while True:
                record = {"name": "probe", "disk_format": "raw", "container_format": "bare", "visibility": "private"}
                answer = self.ask(name, "POST", "/v2/images", json.dumps(record))
                if answer is not None and answer[0] == 201:
                    self.ask(name, "DELETE", f"/v2/images/{json.loads(answer[1])['id']}")
                    break
                if time.monotonic() - begun > seconds:
                    raise RuntimeError(f"node {name} takes no write after {seconds} s: {answer}")
                time.sleep(0.05)
        return time.monotonic() - begun

    def await_equal(self, seconds=SETTLED_SECONDS_MAX):
        """Wait until all nodes have applied the same entry under one leader. Returns complaints."""
        deadline = time.monotonic() + seconds
        while True:
            said = [self.status(name) for name in NAMES]
            facts = {(status["term"], status["leader"], status["applied"]) for status in said if status}
            if None not in said and len(facts) == 1:
                return []
            if time.monotonic() > deadline:
                return [f"term, leader and applied entry differ: {facts}"]
            time.sleep(0.1)

    def kill_all(self):
        """SIGKILL whatever runs."""
        for node in self.nodes.values():
            node.kill()

    def _where(self, node):
        return ("--data-dir", node.data, "--listen", f"127.0.0.1:{node.port}", *node.arguments)

    def _command(self, node, *arguments):
        command = [*node.within, self.binary, "cluster", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"cluster {arguments[0]}: {done.stderr.strip()}")
        return done.stdout
