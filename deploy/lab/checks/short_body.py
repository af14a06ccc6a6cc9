"""Announce 1,000,000 bytes, send 400,000, hang up.

usage: short_body.py URL IMAGE_ID
"""

import socket
import sys
from urllib.parse import urlsplit

address = urlsplit(sys.argv[1])
with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
    connection.sendall(
        f"PUT /v2/images/{sys.argv[2]}/file HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n".encode()
    )
    connection.sendall(b"x" * 400_000)
