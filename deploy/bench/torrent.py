#!/usr/bin/python3
"""One BitTorrent peer, by Debian's python3-libtorrent, as a rival of a swarm of nodes.

usage: torrent.py make FILE TORRENT
       torrent.py peer TORRENT FOLDER ADDRESS,ADDRESS... ME SIGNS [--seed]

A peer writes SIGNS/ready.ME, waits for SIGNS/go, calls every other address itself (no tracker, no DHT) and writes the
monotonic time to SIGNS/done.ME when it has everything; it goes on until SIGNS/stop. Its settings are the friendliest
found for a LAN: TCP, nobody choked, deep queues of requests, no encryption.
"""

import os
import sys
import time

import libtorrent

PORT = 6881
PIECE_BYTES = 1 << 20
SETTINGS = {
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False, "alert_mask": 0,
    "out_enc_policy": 2, "in_enc_policy": 2, "enable_outgoing_utp": False, "enable_incoming_utp": False,
    "choking_algorithm": 0, "unchoke_slots_limit": 200, "connections_limit": 400, "connection_speed": 200,
    "torrent_connect_boost": 64, "max_out_request_queue": 2000, "request_queue_time": 3,
    "send_buffer_watermark": 2 << 20, "send_buffer_low_watermark": 128 << 10, "hashing_threads": 1, "aio_threads": 2,
    "piece_extent_affinity": False, "whole_pieces_threshold": 1,
}


def make(path, torrent):
    """Describe a file."""
    files = libtorrent.file_storage()
    libtorrent.add_files(files, path)
    made = libtorrent.create_torrent(files, piece_size=PIECE_BYTES, flags=libtorrent.create_torrent.v1_only)
    made.set_priv(True)
    libtorrent.set_piece_hashes(made, os.path.dirname(os.path.abspath(path)))
    with open(torrent, "wb") as out:
        out.write(libtorrent.bencode(made.generate()))


def sign(path, text=""):
    """Show a sign, whole at once."""
    with open(path + ".part", "w", encoding="ascii") as out:
        out.write(text)
    os.rename(path + ".part", path)


def peer(torrent, folder, addresses, me, signs, seeds):
    """Take part until told to stop."""
    addresses = addresses.split(",")
    session = libtorrent.session(SETTINGS | {"listen_interfaces": f"{addresses[me]}:{PORT}"})
    order = libtorrent.add_torrent_params()
    order.ti = libtorrent.torrent_info(torrent)
    order.save_path = folder
    flags = libtorrent.torrent_flags
    order.flags &= ~(flags.auto_managed | flags.paused)
    order.flags |= flags.disable_dht | flags.disable_lsd | flags.disable_pex
    if seeds:
        order.flags |= flags.seed_mode
    handle = session.add_torrent(order) if seeds else None
    sign(f"{signs}/ready.{me}")
    while not os.path.exists(f"{signs}/go"):
        time.sleep(0.02)
    if handle is None:
        handle = session.add_torrent(order)
        for other, address in enumerate(addresses):
            if other != me:
                handle.connect_peer((address, PORT))
    done = seeds
    while not os.path.exists(f"{signs}/stop"):
        if not done and handle.status().is_seeding:
            done = True
            sign(f"{signs}/done.{me}", f"{time.monotonic():.3f}")
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:4])
    else:
        peer(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6], "--seed" in sys.argv)
