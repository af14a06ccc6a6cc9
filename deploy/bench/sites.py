"""Network namespaces with links of a rate, in sites that share an access link each.

Every node has a link to the bridge of its site; sites, if there are several, hang on one more bridge by their access
links. Rates are enforced both ways by tc's token buckets. What leaves a site is delayed by the kernel's netem, or where that
is missing by `delay.py`, which takes some processor time. Nothing is added to the machine's own namespace. Needs root,
`ip` and `tc`.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab"))
from network import PREFIX, connect_inside, run  # noqa: E402

SUBNET = "198.18"
DELAY = str(Path(__file__).resolve().parent / "delay.py")
# Of a bucket: a whole burst of the sender passes unsplit, which keeps many nodes cheap on few cores.
BURST_BYTES = 98_304
QUEUE_SECONDS = 0.05
QUEUE_BYTES_MIN = 196_608


class Sites:
    """`counts` nodes in each site, numbered from 0 across all of them, until `remove`."""

    def __init__(self, counts, node_mbit, access_mbit, access_delay_ms):
        self.base = f"{PREFIX}-{os.getpid()}"
        self.switch = f"{self.base}-switch"
        self.site_of = [site for site, count in enumerate(counts) for _ in range(count)]
        self.node_mbit, self.access_mbit, self.delay_ms = node_mbit, access_mbit, access_delay_ms
        self.counted, self.delaying = {}, None

    def build(self):
        """Make the namespaces and the links."""
        run("ip", "netns", "add", self.switch)
        sites = sorted(set(self.site_of))
        for bridge in ["core"] + [f"site{site}" for site in sites]:
            self._inside("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            self._inside("ip", "link", "set", bridge, "up")
        if len(sites) > 1:
            self._connect_sites(sites)
        for node, site in enumerate(self.site_of):
            name = self.name(node)
            run("ip", "netns", "add", name)
            run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"n{node}", "netns", self.switch)
            self._inside("ip", "link", "set", f"n{node}", "master", f"site{site}", "up")
            run("ip", "-n", name, "address", "add", f"{self.address(node)}/16", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", link, "up")
            run("ip", "-n", name, "route", "add", "default", "dev", "eth0")
            shape(name, "eth0", self.node_mbit)
            shape(self.switch, f"n{node}", self.node_mbit)

    def _connect_sites(self, sites):
        relayed = self.delay_ms > 0 and not self._has_netem()
        for site in sites:
            if relayed:
                for link in (f"up{site}", f"down{site}"):
                    self._inside("ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}x")
                    self._inside("ip", "link", "set", f"{link}x", "up")
            else:
                self._inside("ip", "link", "add", f"up{site}", "type", "veth", "peer", "name", f"down{site}")
            self._inside("ip", "link", "set", f"up{site}", "master", f"site{site}", "up")
            self._inside("ip", "link", "set", f"down{site}", "master", "core", "up")
            for link in (f"up{site}", f"down{site}"):
                shape(self.switch, link, self.access_mbit)
            if self.delay_ms > 0 and not relayed:
                self._inside("tc", "qdisc", "add", "dev", f"up{site}", "parent", "1:1", "netem",
                             "delay", f"{self.delay_ms}ms", "limit", "100000")
        if relayed:
            cables = [f"up{site}x:down{site}x" for site in sites]
            self.delaying = subprocess.Popen((*inside(self.switch), sys.executable, DELAY, str(self.delay_ms), *cables))

    def _has_netem(self):
        netem = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
        return subprocess.run(("ip", "netns", "exec", self.switch) + netem, capture_output=True).returncode == 0

    def name(self, node):
        """The namespace of a node."""
        return f"{self.base}-n{node}"

    def address(self, node):
        """Where other nodes reach it."""
        return f"{SUBNET}.{self.site_of[node]}.{node + 1}"

    def within(self, node):
        """What a command line begins with that runs there, and ends when this script does."""
        return inside(self.name(node))

    def connect(self, node, port, timeout):
        """A TCP connection to a port of the node's loopback."""
        namespace = os.open(f"/run/netns/{self.name(node)}", os.O_RDONLY)
        try:
            return connect_inside(namespace, port, timeout)
        finally:
            os.close(namespace)

    def count(self):
        """Remember what has passed until now."""
        self.counted = self._passed()

    def passed(self):
        """Bytes since: sent by each node, received by each node, and sent out of each site if there are several."""
        since = {link: now - self.counted[link] for link, now in self._passed().items()}
        nodes, sites = range(len(self.site_of)), sorted(set(self.site_of))
        return ([since["sent", node] for node in nodes], [since["received", node] for node in nodes],
                [since["out", site] for site in sites if len(sites) > 1])

    def _passed(self):
        passed = {}
        for node in range(len(self.site_of)):
            passed["sent", node], passed["received", node] = counters(self.name(node), "eth0")
        if len(set(self.site_of)) > 1:
            for site in set(self.site_of):
                passed["out", site] = counters(self.switch, f"up{site}")[0]
        return passed

    def _inside(self, *command):
        run("ip", "netns", "exec", self.switch, *command)

    def remove(self):
        """Remove the namespaces."""
        if self.delaying is not None:
            self.delaying.kill()
            self.delaying.wait()
        for name in [self.switch] + [self.name(node) for node in range(len(self.site_of))]:
            if os.path.exists(f"/run/netns/{name}"):
                run("ip", "netns", "del", name)


def inside(namespace):
    """What a command line begins with that runs in a namespace, and ends when this script does."""
    return ("nsenter", f"--net=/run/netns/{namespace}", "setpriv", "--pdeathsig", "KILL", "--")


def counters(namespace, link):
    """What a link has sent and received, in bytes."""
    paths = (f"/sys/class/net/{link}/statistics/{way}_bytes" for way in ("tx", "rx"))
    sent, received = run("ip", "netns", "exec", namespace, "cat", *paths).split()
    return int(sent), int(received)


def shape(namespace, link, mbit):
    """Let a link send so many megabits a second."""
    rate = mbit * 1_000_000 / 8
    limit = BURST_BYTES + max(QUEUE_BYTES_MIN, int(rate * QUEUE_SECONDS))
    run("ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", link, "root", "handle", "1:", "tbf",
        "rate", f"{mbit}mbit", "burst", str(BURST_BYTES), "limit", str(limit))
