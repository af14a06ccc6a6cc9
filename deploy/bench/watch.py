"""What a run of a swarm looks at while it goes: that something becomes true, and processor time."""

import os
import time

POLL_SECONDS = 0.05
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def wait_for(holds, seconds, what):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def busy():
    """Processor time of this machine, and how much of it was used."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:6]]
    return sum(ticks), sum(ticks[:3])


def processor_seconds(processes):
    """What these processes have used so far, user and system. One that died still counts until it is waited for."""
    ticks = 0
    for process in processes:
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
            # The name in parentheses may hold spaces, so fields are counted from behind it.
            ticks += sum(int(word) for word in stat.read().rpartition(")")[2].split()[11:13])
    return ticks / TICKS_PER_SECOND
