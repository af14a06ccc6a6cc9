#!/usr/bin/env python3
"""Ratios against named rivals, side by side in one run.

usage: bench.py --binary PATH [--loader PATH] [--only upload,download,requests,many,memory,cluster,million]
                [--folder DIR] [--image-mib 1024] [--images 100000] [--images-million 1000000] [--run-seconds 8]

Medians of three alternating rounds. Everything is on loopback and on one disk (--folder, default /var/tmp;
about 20 GiB while it runs, removed at the end). Prints a Markdown table and the commands that were timed.
`million` takes many minutes and runs only when --only names it. The load generator is looked for beside the binary.
The exit code is 1 when a bar is missed. On a busy machine the figures mean little: the load is printed.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

os.environ["PATH"] += ":/usr/sbin:/sbin"
import cluster  # noqa: E402
import figures  # noqa: E402
from figures import Bench  # noqa: E402
from rivals import Log, Nginx  # noqa: E402

FIGURES = figures.FIGURES | cluster.FIGURES


def machine():
    """One line on what it runs on."""
    with open("/proc/meminfo", encoding="ascii") as info:
        gib = int(info.readline().split()[1]) / (1 << 20)
    load = os.getloadavg()
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, load now {load[0]:.1f} (1 min) and {load[1]:.1f} (5 min)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--loader")
    parser.add_argument("--only", default=",".join(name for name in FIGURES if name not in cluster.SLOW))
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--image-mib", type=int, default=1024)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--images-million", type=int, default=1_000_000)
    parser.add_argument("--run-seconds", type=float, default=8.0)
    options = parser.parse_args()
    options.loader = options.loader or os.path.join(os.path.dirname(options.binary), "load")
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    before = machine()
    print(before, flush=True)
    folder = tempfile.mkdtemp(prefix="peerglass-bench.", dir=options.folder)
    os.chmod(folder, 0o755)
    log, told, nginx, bench = Log(), [], None, None
    begun = time.monotonic()
    try:
        nginx = Nginx(folder)
        bench = Bench(options, folder, nginx, log)
        for name in wanted:
            for figure in FIGURES[name](bench):
                told.append(figure)
                print(figure.row(), flush=True)
    finally:
        if bench is not None:
            bench.end()
        if nginx is not None:
            nginx.end()
        shutil.rmtree(folder, ignore_errors=True)
    print("\nTimed commands:")
    for label, command in log.commands.items():
        print(f"  {label}: {command.replace(folder, '$FOLDER')}")
    print(f"\n{time.strftime('%Y-%m-%d')}, {time.monotonic() - begun:.0f} s, before it: {before}\n")
    print("| Figure | Peerglass | Rival | Ratio or value | Bar | |\n| --- | --- | --- | --- | --- | --- |")
    for figure in told:
        print(figure.row())
    return not all(figure.met for figure in told)


if __name__ == "__main__":
    sys.exit(main())
