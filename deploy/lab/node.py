"""One peerglass process, for Python scripts: start, wait until ready, kill, read its memory, talk to it.

Only processes started here are ever signalled, by their own handle.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import time

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
ANSWER_SECONDS_MAX = 300
BLOCK_BYTES = 1 << 20


def free_port():
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unmarked(data):
    """`data` without the mark of a boot record. One in 65,536 random images has it by chance, and is then refused for
    its partition table.
    """
    return data[:510] + bytes(len(data[510:512])) + data[512:]


class Node:
    """A node on one data directory; it may be started and ended many times."""

    def __init__(self, binary, data, log, *arguments):
        self.binary, self.data, self.log, self.arguments = binary, data, log, arguments
        self.port = free_port()
        self.process = None
        # What the command line begins with, such as a command that enters a network namespace.
        self.within = ()

    @property
    def url(self):
        """Where the image API is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start and wait for the ready line. Returns the seconds from exec to that line."""
        begun = time.monotonic()
        self.launch()
        self.await_ready()
        return time.monotonic() - begun

    def launch(self):
        """Start, without a wait."""
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.data]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.within, *command, *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )

    def await_ready(self):
        """Wait for the ready line."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        os.set_blocking(self.process.stdout.fileno(), False)
        said = b""
        while time.monotonic() < deadline:
            said += self.process.stdout.read() or b""
            if any(line.startswith(b"ready: ") for line in said.splitlines()):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        self.kill()
        with open(self.log, "rb") as log:
            tail = log.read()[-2000:].decode(errors="replace")
        raise RuntimeError(f"the node did not get ready; it said:\n{said.decode(errors='replace')}\n{tail}")

    def kill(self):
        """SIGKILL, then collect it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def stop(self):
        """SIGTERM; an error when it takes too long or ends badly."""
        self.process.terminate()
        code = self.process.wait(timeout=STOP_SECONDS_MAX)
        self.process.stdout.close()
        self.process = None
        if code != 0:
            raise RuntimeError(f"the node ended with exit code {code}")

    def memory_peak_mib(self):
        """The most resident memory it has had since it was started (VmHWM)."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        raise RuntimeError("no VmHWM in /proc")


class Client:
    """A keep-alive connection to a node. Raises OSError or http.client.HTTPException when it breaks."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)

    def ask(self, method, path, body=None, content_type="application/json"):
        """One request; returns (status, body bytes)."""
        headers = {} if body is None else {"Content-Type": content_type}
        self.connection.request(method, path, body=body, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def create(self, name, **fields):
        """Create a queued raw image; returns its id."""
        record = {"name": name, "disk_format": "raw", "container_format": "bare", **fields}
        status, body = self.ask("POST", "/v2/images", json.dumps(record))
        if status != 201:
            raise RuntimeError(f"create answered {status}: {body[:200]!r}")
        return json.loads(body)["id"]

    def upload(self, image, data):
        """PUT the bytes; returns the status."""
        return self.ask("PUT", f"/v2/images/{image}/file", data, "application/octet-stream")[0]

    def digest(self, image, new_hash):
        """Download and hash; returns (status, bytes received, hex digest). A broken body raises."""
        self.connection.request("GET", f"/v2/images/{image}/file")
        answer = self.connection.getresponse()
        digest, received = new_hash(), 0
        while block := answer.read(BLOCK_BYTES):
            digest.update(block)
            received += len(block)
        if answer.length:  # http.client ends a cut body without a word
            raise ConnectionError(f"the body ended {answer.length} bytes early")
        return answer.status, received, digest.hexdigest()

    def close(self):
        """Close the connection."""
        self.connection.close()
