#!/usr/bin/env python3
"""One image to many nodes over slow links, against libtorrent in the same run.

usage: swarm.py --binary PATH [--shapes 16,6+6,4+4+4] [--content random,raw-os,updated] [--kill 0] [--first-byte]
                [--streaming] [--liar BINARY]
                [--mbit 100] [--access-mbit 50] [--access-delay-ms 20] [--mib 512] [--rounds 3] [--folder DIR] [--verify]

A shape is the number of nodes of each site; the first node of the first has the image. Every other node is asked for
it at once, by `curl`, while it has nothing of it. Rounds alternate; medians. "Ideal" is the size over the slowest link
that every byte has to cross. Files are in memory (--folder, default /dev/shm: nodes x size). Needs root.
With all nodes on one machine, its processors may be what is measured: how busy they were is printed.

Contents: `random` bytes; `raw-os`, a disk with this machine's files; `updated-in-place` and `updated-rebuilt`, both by
`updated`: a next version of such a disk, of which nodes hold the version before (libtorrent's hold nothing).
--kill N: so many of the nodes that fetch are killed at half of the ideal time; only the others are awaited. Other
contents than random bytes may all be there by then, so they do not go with it.
--first-byte: instead of shapes, how soon a node that has nothing answers its client.
--streaming: instead of libtorrent, what it costs the last node that every node has a client who reads the image while
it comes, beside nodes that only fetch it.
--liar BINARY: the same of one node that runs BINARY, with the command line of a node, beside one that runs what all run.
--verify: clients of nodes compare what they get while it comes, which costs processor time; peers' files are compared.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from threading import Timer

os.environ["PATH"] += ":/usr/sbin:/sbin"
import added  # noqa: E402
import first_byte  # noqa: E402
from images import CONTENTS  # noqa: E402
from nodes import Nodes  # noqa: E402
from peers import Peers  # noqa: E402
from shape import Shape  # noqa: E402
from sites import Sites  # noqa: E402
from watch import busy  # noqa: E402

KILLED_AT = 0.5
GIB = 1 << 30
UPDATED = ["updated-in-place", "updated-rebuilt"]
ROWS = (
    ("ratio", "last node / ideal"), ("seed", "copies the seed sent"), ("access", "copies out of the busiest site"),
    ("received", "most that a node received / size"), ("cost", "processor seconds / GiB received"),
    ("delivery", "processor seconds / GiB delivered"), ("busy", "processors busy"),
)


def begin(kind, options, sites, shape, versions, folder):
    """Start what takes part in a run, all of it ready to fetch."""
    before, image = versions
    if kind == "libtorrent":
        return Peers(sites, folder, image, shape.nodes)
    nodes = Nodes(sites, folder, shape.nodes, options.binary)
    try:
        if before is not None:
            nodes.put(before)
            limit = shape.seconds_max
            if limit in nodes.fetch(limit, range(1, shape.nodes), options.verify):
                raise RuntimeError("a node could not fetch the version before")
        nodes.put(image)
    except BaseException:
        nodes.end()
        raise
    return nodes


def measured(taking_part, options, sites, shape):
    """What is measured while all fetch."""
    limit = shape.seconds_max
    deaths = Timer(shape.ideal * KILLED_AT, lambda: [taking_part.processes[node].kill() for node in shape.killed])
    sites.count()
    all_before, used_before = busy()
    spent_before = taking_part.processor_seconds()
    deaths.start()
    try:
        times = taking_part.fetch(limit, shape.awaited, options.verify)
    finally:
        deaths.cancel()
    spent = taking_part.processor_seconds() - spent_before
    all_after, used_after = busy()
    sent, received, access = sites.passed()
    return {
        "ratio": max(times) / shape.ideal, "seed": sent[0] / shape.size, "access": max(access, default=0) / shape.size,
        "received": max(received[node] for node in shape.awaited) / shape.size,
        "cost": spent / (sum(received) / GIB), "delivery": spent / (shape.size * len(shape.awaited) / GIB),
        "busy": (used_after - used_before) / (all_after - all_before),
    }


def round_of(kind, options, shape, versions, folder):
    """One run of one kind. Answers with what was measured, by the names of ROWS."""
    sites = Sites(shape.counts, options.mbit, options.access_mbit, options.access_delay_ms)
    taking_part = None
    try:
        sites.build()
        taking_part = begin(kind, options, sites, shape, versions, folder)
        return measured(taking_part, options, sites, shape)
    finally:
        if taking_part is not None:
            taking_part.end()
        sites.remove()
        shutil.rmtree(folder, ignore_errors=True)


def rows_of(content, options, folder):
    """All shapes with one content. Yields rows of the table."""
    os.makedirs(f"{folder}/seed")
    versions = CONTENTS[content](f"{folder}/seed", options.mib)
    for text in options.shapes.split(","):
        shape = Shape(text, options, os.path.getsize(versions[1]))
        said = {"Peerglass": [], "libtorrent": []}
        for _ in range(options.rounds):
            for kind, runs in said.items():
                runs.append(round_of(kind, options, shape, versions, f"{folder}/run"))
                figures = ", ".join(f"{key} {value:.3f}" for key, value in runs[-1].items())
                print(f"  {text}, {content}, {kind}: {figures}", flush=True)
        killed = f", {options.kill} killed" if options.kill else ""
        for key, name in ROWS:
            if key != "access" or len(shape.counts) > 1:
                ours, rival = (statistics.median(run[key] for run in said[kind]) for kind in said)
                yield f"| {text} nodes, {content}{killed}: {name} | {ours:.2f} | {rival:.2f} |"
    shutil.rmtree(f"{folder}/seed")


def parsed():
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--shapes", default="16,6+6,4+4+4")
    parser.add_argument("--content", default="random")
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--first-byte", action="store_true")
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--liar", metavar="BINARY")
    parser.add_argument("--mbit", type=int, default=100)
    parser.add_argument("--access-mbit", type=int, default=50)
    parser.add_argument("--access-delay-ms", type=int, default=20)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--verify", action="store_true")
    options = parser.parse_args()
    options.contents = [content for name in options.content.split(",") for content in (UPDATED if name == "updated" else [name])]
    if unknown := set(options.contents) - set(CONTENTS):
        parser.error(f"no such content: {', '.join(sorted(unknown))}")
    options.added = options.streaming or options.liar is not None
    if (options.kill or options.added) and options.contents != ["random"]:
        parser.error("--kill, --streaming and --liar go with random content only")
    if options.added and (options.kill or options.first_byte):
        parser.error("--streaming and --liar go with neither --kill nor --first-byte")
    fewest = min(sum(map(int, shape.split("+"))) for shape in options.shapes.split(","))
    if not 0 <= options.kill <= (fewest - 1) // 2:
        parser.error("at most half of the nodes that fetch can be killed")
    return options


def main():
    options = parsed()
    folder = tempfile.mkdtemp(prefix="peerglass-swarm.", dir=options.folder)
    rows = []
    try:
        if options.added:
            rows += added.rows_of(options, folder)
        elif options.first_byte:
            rows += first_byte.rows_of(options, folder)
        else:
            for content in options.contents:
                rows += rows_of(content, options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    mib = first_byte.MIB if options.first_byte else options.mib
    print(f"\n{time.strftime('%Y-%m-%d')}, {mib} MiB, {options.mbit} Mbit/s a node, {options.access_mbit} Mbit/s a site\n")
    print(added.HEAD if options.added else "| Figure | Peerglass | libtorrent |\n| --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    sys.exit(main())
