"""Networks of Linux network namespaces, for Python scripts: one a node, joined by a switch in one more.

Nothing is added to the machine's own namespace. Threads of the caller open connections inside a namespace;
cuts are nftables rules that drop silently, and count what they dropped. Needs root, `ip` and `nft`.
"""

import ctypes
import http.client
import json
import os
import socket
import subprocess

PREFIX = "pgchaos"
CLONE_NEWNET = 0x40000000
# Addresses for examples and tests; in namespaces without a way out they meet nobody.
SUBNET = "198.18.77"
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, told=None):
    """A command that must succeed; returns what it printed."""
    done = subprocess.run(command, input=told or "", capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def names_here():
    """All namespaces of these scripts on this machine."""
    return [entry["name"] for entry in json.loads(run("ip", "-json", "netns", "list") or "[]")
            if entry["name"].startswith(PREFIX + "-")]


def sweep():
    """Remove what runs that were killed left behind: mounts and namespaces of scripts that are gone."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for source, target, *_ in (line.split() for line in mounts):
            if source.startswith(PREFIX + "-") and not os.path.exists(f"/proc/{source.split('-')[1]}"):
                run("umount", "-l", target)
    for name in names_here():
        owner = name.split("-")[1]
        if not os.path.exists(f"/proc/{owner}") and not run("ip", "netns", "pids", name).strip():
            run("ip", "netns", "del", name)


class Network:
    """Named hosts on one switch, until `remove`."""

    def __init__(self, hosts):
        self.hosts = list(hosts)
        self.base = f"{PREFIX}-{os.getpid()}"
        self.cuts = set()
        self.dropped = 0
        self._namespaces = {}

    def build(self):
        """Make the namespaces and the links."""
        switch = f"{self.base}-switch"
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for host in self.hosts:
            name = self.name(host)
            run("ip", "netns", "add", name)
            run("ip", "-n", switch, "link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", switch, "link", "set", "dev", host, "master", "bridge", "up")
            run("ip", "-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", link, "up")
            self._namespaces[host] = os.open(f"/run/netns/{name}", os.O_RDONLY)
            self._nft(host, "add table inet cut; add counter inet cut dropped; "
                            "add chain inet cut in { type filter hook input priority 0; }")

    def name(self, host):
        """The namespace of a host."""
        return f"{self.base}-{host}"

    def address(self, host):
        """Where other hosts reach it."""
        return f"{SUBNET}.{self.hosts.index(host) + 1}"

    def within(self, host):
        """What a command line begins with that runs there, and ends when this script does."""
        return ("nsenter", f"--net=/run/netns/{self.name(host)}", "setpriv", "--pdeathsig", "KILL", "--")

    def connect(self, host, port, timeout):
        """A TCP connection to a port of the host's loopback, made by this thread from inside."""
        return connect_inside(self._namespaces[host], port, timeout)

    def cut(self, sender, receiver):
        """From now on nothing that `sender` sends arrives at `receiver`. The other way is left open."""
        self.cuts.add((sender, receiver))
        self._nft(receiver, f"add rule inet cut in ip saddr {self.address(sender)} counter name dropped drop")

    def heal(self):
        """Undo all cuts. Returns how many packets they dropped."""
        dropped = 0
        for host in sorted({receiver for _, receiver in self.cuts}):
            said = run(*self._inside(host), "nft", "--json", "reset", "counter", "inet", "cut", "dropped")
            dropped += sum(entry["counter"]["packets"] for entry in json.loads(said)["nftables"] if "counter" in entry)
            self._nft(host, "flush chain inet cut in")
        self.cuts.clear()
        self.dropped += dropped
        return dropped

    def remove(self):
        """Remove the namespaces."""
        for descriptor in self._namespaces.values():
            os.close(descriptor)
        self._namespaces = {}
        mine = [name for name in names_here() if name.startswith(self.base + "-")]
        for name in mine:
            run("ip", "netns", "del", name)

    def _inside(self, host):
        return ("ip", "netns", "exec", self.name(host))

    def _nft(self, host, rules):
        run(*self._inside(host), "nft", "-f", "-", told=rules + "\n")


class Inside(http.client.HTTPConnection):
    """A connection whose socket somebody else opens."""

    def __init__(self, dial):
        super().__init__("127.0.0.1")
        self.dial = dial

    def connect(self):
        self.sock = self.dial()


def connect_inside(namespace, port, timeout):
    """A TCP connection to a port of the loopback of an open namespace, made by this thread from inside."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(namespace)
        try:
            # A socket stays in the namespace it was made in.
            return socket.create_connection(("127.0.0.1", port), timeout)
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
