#!/usr/bin/env python3
"""A cable between two network links that takes its time one way, for kernels without netem.

usage: delay.py MILLISECONDS NEAR:FAR...

Every frame that comes out of NEAR goes into FAR so much later; what comes out of FAR goes into NEAR at once. Frames are
passed on as they are, also those of many segments that the kernel has not cut yet, so it costs little. Needs root.
"""

import collections
import select
import socket
import sys
import time

ANY_PROTOCOL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_OUTGOING = 4
# A whole burst of segments, and the header that says how to cut it.
FRAME_BYTES_MAX = 1 << 17
# Frames on their way in one cable: at 64 KiB each far more than a link holds in a second. Others are lost.
FRAMES_MAX = 1 << 16
QUEUE_BYTES = 16 << 20


def open_end(link):
    """The end of a cable in a link."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ANY_PROTOCOL))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
    end.bind((link, ANY_PROTOCOL))
    end.setblocking(False)
    return end


def received(end):
    """All frames that have come out of a link."""
    while True:
        try:
            frame, (_, _, kind, *_) = end.recvfrom(FRAME_BYTES_MAX)
        except BlockingIOError:
            return
        if kind != PACKET_OUTGOING:
            yield frame


def put(end, frame):
    """Put a frame into a link. What does not fit is lost, as on any cable."""
    try:
        end.send(frame)
    except OSError:
        pass


def main():
    delay = float(sys.argv[1]) / 1e3
    cables = [[open_end(link) for link in pair.split(":")] for pair in sys.argv[2:]]
    ways = [(near, far, collections.deque()) for near, far in cables]
    ends = [end for pair in cables for end in pair]
    while True:
        due = min((waiting[0][0] for _, _, waiting in ways if waiting), default=None)
        select.select(ends, [], [], None if due is None else max(0, due - time.monotonic()))
        now = time.monotonic()
        for near, far, waiting in ways:
            for frame in received(near):
                if len(waiting) < FRAMES_MAX:
                    waiting.append((now + delay, frame))
            for frame in received(far):
                put(near, frame)
            while waiting and waiting[0][0] <= now:
                put(far, waiting.popleft()[1])


if __name__ == "__main__":
    main()
