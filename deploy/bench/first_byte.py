"""How soon a node that has nothing of an image answers its client, while the only other node has it.

One cluster of two nodes is asked for several small images, one after the other. Beside it: when one peer of libtorrent
has the whole of each from another, because nothing of its file can be relied on before.
"""

import os
import shutil
import statistics

from images import random_bytes
from nodes import Nodes
from peers import Peers
from sites import Sites

IMAGES = 5
MIB = 64
EARLY_BYTES = 64 << 10
MEASURED = ("first byte", "first 64 KiB", "whole file")
# Many times what the link needs; a run that takes longer has failed.
SECONDS_MAX = 120


def rows_of(options, folder):
    """Rows of the table, times in milliseconds, medians over all images of all rounds."""
    paths = []
    for number in range(IMAGES):
        os.makedirs(f"{folder}/seed/{number}")
        paths.append(random_bytes(f"{folder}/seed/{number}", MIB)[1])
    ours, rival = [], []
    for _ in range(options.rounds):
        ours += in_namespaces(options, f"{folder}/run", lambda sites, run: answers(sites, run, options.binary, paths))
        for path in paths:
            rival += in_namespaces(options, f"{folder}/run", lambda sites, run: whole(sites, run, path))
        print(f"  first byte, Peerglass: {', '.join(f'{first * 1e3:.0f} ms' for first, *_ in ours[-IMAGES:])}; "
              f"whole file, libtorrent: {', '.join(f'{seconds:.2f} s' for seconds in rival[-IMAGES:])}", flush=True)
    beside = f"{statistics.median(rival) * 1e3:.0f} ms (whole file)"
    for at, name in enumerate(MEASURED):
        yield f"| cold node, {MIB} MiB: {name} | {statistics.median(run[at] for run in ours) * 1e3:.0f} ms | {beside} |"


def in_namespaces(options, folder, measure):
    """Let two nodes of one site measure something."""
    sites = Sites([2], options.mbit, options.mbit, 0)
    try:
        sites.build()
        return measure(sites, folder)
    finally:
        sites.remove()
        shutil.rmtree(folder, ignore_errors=True)


def answers(sites, folder, binary, paths):
    """First byte, first 64 KiB and whole of each image at the second node, in seconds."""
    nodes, seconds = Nodes(sites, folder, 2, binary), []
    try:
        for path in paths:
            nodes.put(path)
            seconds.append(nodes.first_bytes(1, EARLY_BYTES, SECONDS_MAX))
    finally:
        nodes.end()
    return seconds


def whole(sites, folder, path):
    """When the second peer has all of an image, in seconds; one of one."""
    peers = Peers(sites, folder, path, 2)
    try:
        return peers.fetch(SECONDS_MAX, [1])
    finally:
        peers.end()
