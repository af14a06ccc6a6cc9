#!/usr/bin/env python3
"""Break a cluster of three real nodes under load, and check that it kept every promise.

usage: chaos.py --binary PATH --judge PATH [--seconds 300] [--seed N] [--folder DIR] [--stale] [--keep]

The nodes run in network namespaces that are made and removed here, which needs root. Nine clients, three on
each node, change and read the same images; meanwhile the leader is killed, links are cut one way, nodes are
isolated, the leader is paused, a disk is full, all nodes are killed at once, and all restart one by one. Then all
is healed, everything is read from every node, and `judge` checks the recorded history: linearizable image by
image, no acknowledged write lost, no wrong byte. No image may be stuck in `saving`, no node may end by itself, and
the nodes must be equal.

The seed is printed, and `--seed` repeats the schedule of faults (threads and disks still make every run a
little different). At least one round of all faults is done, however short the time. With `--stale` the clients ask
for answers that may be old, as if the nodes were broken: then the run must fail, or the judge is blind. Prints one
check a line and `N passed, N failed`; the exit code is 0 only when nothing was violated and every kind of fault
took effect.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cluster import BROKEN, NAMES, Cluster
from faults import KINDS, SMALL, Faults, drawn, stuck
from kill import Report
from network import Network, run, sweep
from recorder import Recorder
from workload import CLIENTS_PER_NODE, Load, Scene, Session

SHORT_SECONDS = 90
SMALL_DISK_MIB = 256
STUCK_SECONDS_MAX = 60
JUDGE_SECONDS_MAX = 600
# A leader and writes on every node, once all is healed (I-L1).
HEALED_SECONDS_MAX = 10
AUDIT_TRIES = 20
SLOW_SHOWN = 5


def audit(scene):
    """Read everything from every node, into the history. Returns complaints."""
    wrong, lists = [], {}
    for name in NAMES:
        session = Session(scene, name)
        lists[name] = session.list()
        if lists[name] is None:
            wrong.append(f"node {name} does not list its images")
            continue
        for image in scene.images:
            session.get(image)
            if lists[name].get(image.id, {}).get("status") == "active":
                for _ in range(AUDIT_TRIES):
                    ending = session.download(image)
                    if ending == "done":
                        break
                    time.sleep(0.5)
                else:
                    wrong.append(f"node {name} does not give the bytes of {image.id}: {ending}")
    for name in NAMES[1:]:
        if lists[name] != lists[NAMES[0]]:
            wrong.append(f"nodes {NAMES[0]} and {name} list different images")
    return wrong


def judged(judge, history, report):
    """Have the history judged."""
    done = subprocess.run(
        [judge, history], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=JUDGE_SECONDS_MAX,
    )
    said = (done.stdout + done.stderr).splitlines()
    for line in said[:2]:
        print(line)
    report.check("each image's history is linearizable, nothing acknowledged is lost, no byte is wrong",
                 [] if done.returncode == 0 else said[2:])


def panics(cluster):
    """Lines of the nodes' logs that tell of a panic."""
    found = []
    for name, node in cluster.nodes.items():
        with open(node.log, encoding="utf-8", errors="replace") as log:
            found += [f"{name}: {line.strip()[:200]}" for line in log if "panicked at" in line]
    return found


def break_it(faults, scene, loads, seed, seconds):
    """Load and faults until the time is over and each kind has had its turn."""
    for load in loads:
        load.start()
    begun, turns = time.monotonic(), 0
    for fault in drawn(seed, seconds < SHORT_SECONDS):
        over = time.monotonic() - begun >= seconds
        if over and turns >= 2 * (len(KINDS) - 1):
            break
        if over and fault["kind"] == "kill leader" and faults.fired["kill leader"] > 0:
            turns += 1
            continue
        at = time.monotonic() - begun
        faults.do(fault)
        turns += 1
        print(f"{at:6.1f} s  {fault['kind']}", flush=True)
    return time.monotonic() - begun


def conclude(report, cluster, faults, scene, loads):
    """Heal, wait, read everything."""
    faults.heal()
    healed = cluster.await_writes()
    report.check(f"healed: writes succeed on every node after {healed:.1f} s",
                 [f"more than {HEALED_SECONDS_MAX} s"] if healed > HEALED_SECONDS_MAX else [])
    scene.stop.set()
    for load in loads:
        load.join(STUCK_SECONDS_MAX)
    report.check("no client hangs", [f"{load.session.node}" for load in loads if load.is_alive()])
    report.check("no image is stuck in saving", stuck(cluster, STUCK_SECONDS_MAX))
    report.check(f"{len(scene.images)} images read from every node: lists are equal, all bytes are there", audit(scene))
    report.check("all nodes have applied the same", cluster.await_equal())
    report.check("no node panicked", panics(cluster))
    report.check("no node ended by itself, every stop and start succeeded", scene.complaints)


def facts(recorder, faults):
    """What was done, and how it was answered."""
    print("requests: " + ", ".join(f"{name} {count}" for name, count in sorted(recorder.endings.items())))
    print("answers: " + ", ".join(f"{status} {count}" for status, count in sorted(recorder.statuses.items())))
    print("broken: " + ", ".join(f"{name} {count}" for name, count in recorder.breaks.most_common(6)))
    slow = faults.slow(recorder)
    print(f"slow requests to nodes that were not paused: {len(slow)}")
    for line in slow[:SLOW_SHOWN]:
        print(f"  {line}")
    for status, samples in sorted(recorder.samples.items()):
        for sample in samples:
            print(f"  {status} {sample}")
    for note, count in sorted(faults.notes.items()):
        print(f"note: {note}: {count}")
    print(f"slowest return from a power loss: {faults.slowest_return:.1f} s")
    print(f"packets dropped: {faults.network.dropped}")


def play(options, seed, folder, report):
    """One run."""
    network, recorder = Network(NAMES), Recorder(os.path.join(folder, "history.jsonl"))
    cluster, small_disk = Cluster(options.binary, folder, network), os.path.join(folder, SMALL)
    os.mkdir(small_disk)
    cluster.nodes[SMALL].data = os.path.join(small_disk, "data")
    scene = Scene(cluster, recorder, seed, {"X-Peerglass-Read": "stale-ok"} if options.stale else {})
    loads = [Load(scene, name, number) for name in NAMES for number in range(CLIENTS_PER_NODE)]
    faults = Faults(cluster, network, scene, loads, small_disk)
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}M,mode=0700", network.base, small_disk)
        network.build()
        cluster.form()
        seconds = break_it(faults, scene, loads, seed, options.seconds)
        print(f"{seconds:.0f} s under load; faults that took effect: {json.dumps(dict(faults.fired))}")
        conclude(report, cluster, faults, scene, loads)
        for kind in KINDS:
            report.check(f"{kind}: {faults.fired[kind]} times", [] if faults.fired[kind] else ["it never took effect"])
        recorder.close()
        facts(recorder, faults)
        judged(options.judge, recorder.file.name, report)
    finally:
        scene.stop.set()
        scene.hold.clear()
        cluster.kill_all()
        if report.failed and os.path.isdir(cluster.nodes[SMALL].data):
            shutil.copytree(cluster.nodes[SMALL].data, os.path.join(folder, f"{SMALL}.data"))
        if os.path.ismount(small_disk):
            run("umount", "-l", small_disk)
        network.remove()


def refuse(options):
    """Why this cannot run here, or None."""
    if os.geteuid() != 0:
        return "this needs root: it makes network namespaces, drops packets and mounts a small disk"
    for program in ("ip", "nft", "nsenter", "setpriv", "mount"):
        if shutil.which(program) is None:
            return f"'{program}' is not on PATH (deploy/build/debian.sh lab installs it)"
    for path in (options.binary, options.judge):
        if not os.access(path, os.X_OK):
            return f"no program at {path}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--keep", action="store_true", help="keep history and logs also of a run that passed")
    parser.add_argument("--stale", action="store_true", help="ask for stale answers; the judge must find them")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for name in [name for name in os.environ if name.startswith("PEERGLASS_")]:
        del os.environ[name]  # a setting of the shell would go to all three nodes
    if reason := refuse(options):
        print(f"chaos: {reason}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    clients = len(NAMES) * CLIENTS_PER_NODE
    print(f"seed {seed}, {options.seconds:g} s, {len(NAMES)} nodes, {clients} clients", flush=True)
    sweep()
    report, folder = Report(), tempfile.mkdtemp(prefix="pgchaos.", dir=options.folder)
    finished = False
    try:
        play(options, seed, folder, report)
        finished = True
    except (RuntimeError, subprocess.SubprocessError, *BROKEN) as error:
        report.check("the run comes to its end", [f"{type(error).__name__}: {error}"])
        finished = True
    finally:
        if report.failed or not finished or options.keep:
            print(f"seed {seed}; kept for a look: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{report.passed} passed, {report.failed} failed")
    return report.failed != 0


if __name__ == "__main__":
    sys.exit(main())
