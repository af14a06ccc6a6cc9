"""The named rivals: nginx beside openssl and b3sum, and wrk to count requests. Loopback only."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
from node import free_port  # noqa: E402

CONNECTIONS = 8
WRK_SECONDS = 5
START_SECONDS_MAX = 10

CONFIG = """
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location /json/ {{ root {folder}/served; default_type application/json; }}
        location /bytes/ {{ root {folder}/served; default_type application/octet-stream; }}
        location /put/ {{ root {folder}/served; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""


class Nginx:
    """nginx with WebDAV PUT, sendfile and static JSON, in a folder on the same disk as the node's data."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        for name in ("served/json", "served/bytes", "served/put"):
            os.makedirs(os.path.join(folder, name), mode=0o755)
        config = os.path.join(folder, "nginx.conf")
        user = "user root;\n" if os.geteuid() == 0 else ""
        text = user + CONFIG.format(folder=folder, port=self.port, workers=os.cpu_count())
        Path(config).write_text(text, encoding="utf-8")
        self.process = subprocess.Popen(
            ["nginx", "-c", config, "-e", os.path.join(folder, "nginx.err"), "-p", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not os.path.exists(os.path.join(folder, "nginx.pid")):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"nginx did not start; see {folder}/nginx.err")
            time.sleep(0.02)

    @property
    def url(self):
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def served(self, kind, name):
        """The path of a file it serves under /kind/name."""
        return os.path.join(self.folder, "served", kind, name)

    def end(self):
        """Stop it: its master, which takes its workers along."""
        self.process.terminate()
        self.process.wait(timeout=START_SECONDS_MAX)


class Log:
    """Every kind of command that was timed, once, in order, for the report."""

    def __init__(self):
        self.commands = {}

    def note(self, label, command):
        self.commands.setdefault(label, command)


def curl_put(url, path, log, label):
    """A started `curl -T`; its exit code tells whether the answer was a 2xx."""
    head = ["-H", "Content-Type: application/octet-stream", "-H", "Expect:"]
    command = ["curl", "-sf", "-o", "/dev/null", "-T", path, *head, url]
    log.note(label, shlex.join(command))
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def finish(processes):
    """Wait for all; an error when one failed."""
    for process in processes:
        if process.wait() != 0:
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(process.args)}")


def floor_upload(nginx, path, log):
    """The duty of an upload done by the best separate tools at once. Returns seconds until all are done."""
    stored = nginx.served("put", "image")
    begun = time.monotonic()
    put = curl_put(f"{nginx.url}/put/image", path, log, "upload, floor: store")
    others = []
    for command in (["openssl", "md5", path], ["openssl", "sha512", path], ["b3sum", path]):
        log.note(f"upload, floor: {command[0]} {command[1] if len(command) > 2 else ''}", shlex.join(command))
        others.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    finish([put])
    with open(stored, "rb") as file:
        os.fsync(file.fileno())
    finish(others)
    seconds = time.monotonic() - begun
    os.unlink(stored)
    return seconds


def timed_download(url, log, label):
    """Seconds of one whole download to nowhere."""
    command = ["curl", "-sf", "-o", "/dev/null", url]
    log.note(label, shlex.join(command))
    begun = time.monotonic()
    finish([subprocess.Popen(command, stdin=subprocess.DEVNULL)])
    return time.monotonic() - begun


def requests_per_second(url, log, label):
    """What wrk counts over 8 keep-alive connections. An error when an answer was not a 2xx."""
    command = ["wrk", "-t", "2", "-c", str(CONNECTIONS), "-d", f"{WRK_SECONDS}s", url]
    log.note(label, shlex.join(command))
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{url}:\n{said}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
