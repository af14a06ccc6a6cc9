"""Three nodes of Peerglass and three members of etcd on loopback, every file on the same disk.

Only processes started here are ever signalled, by their own handle.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
from node import Node, free_port  # noqa: E402

MEMBERS = 3
AGREED_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
POLL_SECONDS = 0.05
COMMAND_SECONDS_MAX = 60


def ask_json(method, url, body=None):
    """One request outside of any measurement; the JSON of its answer, or None when there is none yet."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, OSError, json.JSONDecodeError):
        return None


def until(found, what, seconds_max=AGREED_SECONDS_MAX):
    """Ask until `found()` says something other than None."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"not within {seconds_max} s: {what}")


class Peerglass:
    """Three voters, once started. `nodes[i]` may be killed and started again."""

    def __init__(self, binary, folder):
        self.binary, self.nodes = binary, []
        for number in range(MEMBERS):
            peer = ["--peer-listen", f"127.0.0.1:{free_port()}"]
            data = os.path.join(folder, f"node-{number}")
            node = Node(binary, data, os.path.join(folder, f"node-{number}.log"), *peer)
            self.nodes.append(node)

    def start(self):
        """Form the cluster and wait until all three vote."""
        first = self.nodes[0]
        self.run("cluster", "init", *self.options(first))
        first.start()
        for node in self.nodes[1:]:
            token = self.run("cluster", "token", "--endpoint", first.url).strip()
            self.run("cluster", "join", token, *self.options(node))
            node.start()
        self.leader()

    def options(self, node):
        """What `cluster init` and `cluster join` must know of a node."""
        return ["--data-dir", node.data, "--listen", f"127.0.0.1:{node.port}", *node.arguments]

    def run(self, *arguments):
        """One command of the binary; what it printed."""
        command = [self.binary, *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS_MAX,
        ).stdout

    def status(self, node):
        """What one node says of the cluster, or None."""
        said = ask_json("GET", f"{node.url}/v2/cluster") if node.process is not None else None
        return None if said is None else said["status"]

    def agreed(self):
        """The index of the leader when all nodes know the same and all vote, else None."""
        said = [self.status(node) for node in self.nodes]
        if any(status is None for status in said) or len({status["leader"] for status in said}) != 1:
            return None
        if any(sum(member["voter"] for member in status["members"]) < MEMBERS for status in said):
            return None
        return next((at for at, status in enumerate(said) if status["node"] == status["leader"]), None)

    def leader(self):
        """The index of the node that leads."""
        return until(self.agreed, "three voters and a leader they all know")

    def endpoint(self, at):
        """host:port of a node, for the load generator."""
        return f"127.0.0.1:{self.nodes[at].port}"

    def end(self):
        """SIGKILL for all that run."""
        for node in self.nodes:
            node.kill()


class Etcd:
    """Three members, once started. Default settings but for the folder, the ports and the space it may take."""

    def __init__(self, folder, log):
        self.folder, self.log, self.processes = folder, log, []
        self.clients = [free_port() for _ in range(MEMBERS)]

    def start(self):
        """Form the cluster and wait until it has a leader."""
        peers = [free_port() for _ in range(MEMBERS)]
        whole = ",".join(f"m{at}=http://127.0.0.1:{port}" for at, port in enumerate(peers))
        for at in range(MEMBERS):
            client, peer = f"http://127.0.0.1:{self.clients[at]}", f"http://127.0.0.1:{peers[at]}"
            command = [
                "etcd", "--name", f"m{at}", "--data-dir", os.path.join(self.folder, f"etcd-{at}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", whole, "--quota-backend-bytes", str(8 << 30),
            ]
            self.log.note("etcd member", shlex.join(command))
            with open(os.path.join(self.folder, f"etcd-{at}.log"), "ab") as said:
                self.processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
                )
        self.leader()

    def agreed(self):
        """The index of the leader when every member knows one, else None."""
        said = [ask_json("POST", f"http://127.0.0.1:{port}/v3/maintenance/status", {}) for port in self.clients]
        if any(status is None for status in said) or len({status.get("leader") for status in said}) != 1:
            return None
        return next(
            (at for at, status in enumerate(said) if status.get("leader") == status["header"]["member_id"]), None
        )

    def leader(self):
        """The index of the member that leads."""
        return until(self.agreed, "a leader of etcd that all members know")

    def endpoint(self, at):
        """host:port of a member, for the load generator."""
        return f"127.0.0.1:{self.clients[at]}"

    def end(self):
        """SIGKILL for all, then collect them."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait(timeout=STOP_SECONDS_MAX)
        self.processes = []


def memory_now_mib(node):
    """The resident memory of a node that runs (VmRSS)."""
    with open(f"/proc/{node.process.pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc")


def load(binary, log, label, target, endpoints, clients, *more):
    """One run of the load generator: what it printed. An error when a request failed."""
    command = [binary, target, "--clients", str(clients), *more]
    for endpoint in endpoints:
        command += ["--endpoint", endpoint]
    log.note(label, shlex.join(command))
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}: {ran.stderr.strip()}")
    said = json.loads(ran.stdout)
    if said["errors"] or not said["requests"]:
        raise RuntimeError(f"{shlex.join(command)}: {ran.stdout.strip()}")
    return said
