#!/usr/bin/env python3
"""Counts over one connection to an echo server: counter.py ADDRESS PORT.

Sends one number after the other and reads each back; says "counting" when the first came, and when its
standard input ends, as JSON: how many came, the longest wait between two, and whether all came once and
in order.
"""
import json
import select
import socket
import struct
import sys
import time

PAUSE = 0.002
PATIENCE = 30.0
STARTS_WITHIN = 15.0
# Numbers that are sent after it was asked to end: whoever was moved counts on.
LAST = 10


def connected(address):
    """A server that was started a moment ago may not listen yet."""
    until = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            return socket.create_connection(address, timeout=STARTS_WITHIN)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main():
    link = connected((sys.argv[1], int(sys.argv[2])))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.settimeout(PATIENCE)
    count, gap, whole = 0, 0.0, True
    last = None
    left = LAST
    while whole and left:
        if select.select([sys.stdin], [], [], 0)[0]:
            left -= 1
        try:
            link.sendall(struct.pack("!Q", count))
            answer = b""
            while len(answer) < 8:
                part = link.recv(8 - len(answer))
                if not part:
                    raise ConnectionError("the server closed the connection")
                answer += part
        except OSError as error:
            print(error, file=sys.stderr)
            whole = False
            break
        now = time.monotonic()
        whole = struct.unpack("!Q", answer)[0] == count
        if last is None:
            print("counting", flush=True)
        else:
            gap = max(gap, now - last)
        last = now
        count += 1
        time.sleep(PAUSE)
    # What is still on the way would be a doubled byte.
    link.setblocking(False)
    try:
        whole = whole and not link.recv(1)
    except BlockingIOError:
        pass
    except OSError:
        whole = False
    print(json.dumps({"count": count, "gap_ms": round(gap * 1000, 1), "whole": whole}))


main()
