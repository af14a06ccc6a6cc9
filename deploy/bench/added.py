"""What it costs the last node of a swarm when something is added, beside the same swarm without it, in turn.

Streaming: every node has a client that reads the image while it comes; without, nodes are told to fetch it. When a
node has all of it is asked of the node, in both, because its client cannot have the last byte before.
A liar: one node runs another program, and is not awaited; without, it is a node like the others, and not awaited either.
Clients of all nodes read the image, in both.
"""

import os
import shutil
import statistics

from images import random_bytes
from nodes import Nodes
from shape import Shape
from sites import Sites

# What is added may cost so much.
RATIO_MAX = 1.05
HEAD = "| Figure | with | without | ratio | bar | |\n| --- | --- | --- | --- | --- | --- |"


def rows_of(options, folder):
    """Rows of the table: times of the last node over the ideal, medians of all rounds, and their ratio."""
    os.makedirs(f"{folder}/seed")
    image = random_bytes(f"{folder}/seed", options.mib)[1]
    for text in options.shapes.split(","):
        shape = Shape(text, options, os.path.getsize(image))
        for name, ways in ways_of(options, shape):
            said = {"without": [], "with": []}
            for _ in range(options.rounds):
                for kind, runs in said.items():
                    runs.append(last_of(options, shape, image, f"{folder}/run", *ways[kind]))
                    print(f"  {text}, {name}, {kind}: {runs[-1]:.3f}", flush=True)
            without, added = (statistics.median(said[kind]) for kind in ("without", "with"))
            ratio = added / without
            met = "met" if ratio <= RATIO_MAX else "MISSED"
            yield f"| {text} nodes, {name}: last node / ideal | {added:.3f} | {without:.3f} | {ratio:.3f} | ≤ {RATIO_MAX:g} | {met} |"


def ways_of(options, shape):
    """What is measured: a name, and for each side which nodes run another program, and how all are made to fetch."""
    if options.streaming:
        def fetch(nodes, streaming):
            return nodes.pull(shape.seconds_max, shape.awaited, streaming)
        yield "a client streams from each", {
            "without": ({}, lambda nodes: fetch(nodes, False)), "with": ({}, lambda nodes: fetch(nodes, True)),
        }
    if options.liar is not None:
        liar = shape.nodes - 1

        def read(nodes):
            awaited = [node for node in shape.awaited if node != liar]
            return nodes.fetch(shape.seconds_max, awaited, options.verify)
        yield "one sends garbage", {"without": ({}, read), "with": ({liar: options.liar}, read)}


def last_of(options, shape, image, folder, others, fetch):
    """One run. Answers with when the last node had the image, over the ideal."""
    sites = Sites(shape.counts, options.mbit, options.access_mbit, options.access_delay_ms)
    nodes = None
    try:
        sites.build()
        nodes = Nodes(sites, folder, shape.nodes, options.binary, others)
        nodes.put(image)
        return max(fetch(nodes)) / shape.ideal
    finally:
        if nodes is not None:
            nodes.end()
        sites.remove()
        shutil.rmtree(folder, ignore_errors=True)
