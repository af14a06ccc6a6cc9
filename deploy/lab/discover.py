#!/usr/bin/env python3
"""Nodes that find each other by mDNS, in network namespaces on one switch. Needs root, `ip` and `nft`.

usage: discover.py --binary PATH [--folder DIR]

A node gets a token, then the only member moves to another port: the token's address is wrong, and the node can
join with --discover only. A third one is told where the member is, with --bootstrap. Then all three move at once, so that no address that
any of them knows is right: they must agree again with discovery, and must not without it, or this would
prove nothing. Prints one check a line and `N passed, N failed`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill import Report
from network import SUBNET, Network, run, sweep
from node import Node

HOSTS = ("a", "b", "c")
PATIENCE_SECONDS = 40
ALONE_SECONDS = 12
JOIN_SECONDS_MAX = 40


class Site:
    """A node in a namespace of its own."""

    def __init__(self, network, host, binary, folder):
        self.network, self.host, self.binary = network, host, binary
        self.address, self.port = network.address(host), 9293
        self.node = Node(binary, str(folder / host), str(folder / f"{host}.log"))
        self.node.within = network.within(host)

    def flags(self):
        """Where its data and its peer port are."""
        return ("--data-dir", self.node.data, "--peer-listen", f"{self.address}:{self.port}")

    def start(self, *more):
        """Serve, wherever it is now."""
        self.node.arguments = ("--peer-listen", f"{self.address}:{self.port}", *more)
        self.node.start()

    def cluster(self, *words):
        """A `cluster` command inside the namespace."""
        command = [*self.node.within, self.binary, "cluster", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=JOIN_SECONDS_MAX, check=False)

    def token(self):
        """A token this node issues."""
        return self.cluster("token", "--endpoint", self.node.url).stdout.strip()

    def status(self):
        """The cluster as this node sees it."""
        said = self.cluster("status", "--json", "--endpoint", self.node.url)
        return json.loads(said.stdout)["status"] if said.returncode == 0 else {"members": []}

    def writes(self):
        """Whether it creates an image, which a majority has to agree on."""
        record = '{"name":"x","disk_format":"raw","container_format":"bare"}'
        said = subprocess.run(
            [*self.node.within, "curl", "-sf", "-m", "6", "-o", "/dev/null", "-H", "Content-Type: application/json",
             "-d", record, f"{self.node.url}/v2/images"], check=False)
        return said.returncode == 0

    def move(self):
        """Give the host another address; the node must not run."""
        name, self.address = self.network.name(self.host), f"{SUBNET}.{HOSTS.index(self.host) + 101}"
        run("ip", "-n", name, "address", "flush", "dev", "eth0")
        run("ip", "-n", name, "address", "add", f"{self.address}/24", "dev", "eth0")


def unless(fine, said):
    """The complaints of a check."""
    return [] if fine else [said]


def until(true, seconds):
    """Whether it comes about in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.2)
    return False


def check_joins(report, sites):
    """Join with a token whose address is wrong."""
    first, second, third = sites
    first.cluster("init", *first.flags())
    first.start()
    tokens = [first.token(), first.token()]
    first.node.stop()
    first.port = 9393
    first.start()
    said = second.cluster("join", tokens[0], *second.flags())
    report.check("a token with an old address is of no use by itself", unless(said.returncode != 0, said.stderr[-300:]))
    # The first address of the list is nobody's, which must not be the end of it.
    named = ("--bootstrap", f"{first.address}:9", "--bootstrap", f"{first.address}:{first.port}")
    for site, token, way in ((second, tokens[0], ("--discover",)), (third, tokens[1], named)):
        begun = time.monotonic()
        said = site.cluster("join", *way, token, *site.flags())
        took = time.monotonic() - begun
        report.check(f"{site.host} joins with {way[0]} ({took:.1f} s)", unless(said.returncode == 0, said.stderr[-600:]))
        site.start()
    voting = until(lambda: sum(m["voter"] for m in first.status()["members"]) == 3, PATIENCE_SECONDS)
    report.check("all three vote", unless(voting, str(first.status())))


def check_nobody(report, network, site, folder):
    """Where nobody is, the error says what was tried."""
    token = site.token()
    lost = Site(network, "lost", site.binary, folder)
    said = lost.cluster("join", "--discover", token, *lost.flags())
    fine = said.returncode != 0 and "mDNS" in said.stderr and "5353" in said.stderr
    report.check("a node on another network is told what was tried", unless(fine, said.stderr[-600:]))


def check_moves(report, sites, folder):
    """Move all of them at once."""
    for site in sites:
        site.node.stop()
    off = folder / "off.toml"
    off.write_text('[discovery]\nlisten = "off"\n', encoding="utf-8")
    for site in sites:
        site.move()
        site.start("--config", str(off))
    lost = not until(sites[0].writes, ALONE_SECONDS)
    report.check("moved nodes do not agree without discovery", unless(lost, "they do"))
    for site in sites:
        site.node.stop()
        site.start()
    begun = time.monotonic()
    agree = all(until(site.writes, PATIENCE_SECONDS) for site in sites)
    report.check(f"moved nodes find each other and agree ({time.monotonic() - begun:.1f} s)", unless(agree, "no majority"))
    wanted = {f"{site.address}:{site.port}" for site in sites}
    known = until(lambda: {m["address"] for m in sites[0].status()["members"]} == wanted, PATIENCE_SECONDS)
    report.check("and everybody's new address is on record", unless(known, str(sites[0].status())))


def main():
    """Build the network, run the checks, take it down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--folder", default=None)
    given = options.parse_args()
    sweep()
    folder = Path(tempfile.mkdtemp(prefix="peerglass-discover.", dir=given.folder))
    network, report = Network([*HOSTS, "lost"]), Report()
    sites = [Site(network, host, given.binary, folder) for host in HOSTS]
    try:
        network.build()
        run("ip", "-n", f"{network.base}-switch", "link", "set", "dev", "lost", "nomaster")
        check_joins(report, sites)
        check_nobody(report, network, sites[0], folder)
        check_moves(report, sites, folder)
    finally:
        for site in sites:
            site.node.kill()
        network.remove()
        if report.failed == 0:
            shutil.rmtree(folder)
        else:
            print(f"logs are in {folder}")
    print(f"{report.passed} passed, {report.failed} failed")
    return report.failed > 0


if __name__ == "__main__":
    sys.exit(main())
