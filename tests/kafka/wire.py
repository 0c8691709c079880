"""The one exchange a start needs: Metadata version 2, written by hand so that no client library has an opinion."""

import socket
import struct

METADATA, VERSION = 3, 2


def brokers(host, port, timeout=2.0):
    """The node ids that the broker at host:port believes to be alive, each with its address; OSError if it does not answer."""
    return _metadata(host, port, timeout)[0]


def cluster_id(host, port, timeout=2.0):
    return _metadata(host, port, timeout)[1]


def _metadata(host, port, timeout):
    body = struct.pack(">hhih", METADATA, VERSION, 1, len(b"rig")) + b"rig" + struct.pack(">i", 0)
    with socket.create_connection((host, port), timeout=timeout) as link:
        link.sendall(struct.pack(">i", len(body)) + body)
        answer = _read(link, struct.unpack(">i", _read(link, 4))[0])
    at = 4  # the correlation id
    (count,), at = struct.unpack_from(">i", answer, at), at + 4
    found = {}
    for _ in range(count):
        (node,), at = struct.unpack_from(">i", answer, at), at + 4
        name, at = _string(answer, at)
        (its_port,), at = struct.unpack_from(">i", answer, at), at + 4
        _rack, at = _string(answer, at)
        found[node] = f"{name}:{its_port}"
    return found, _string(answer, at)[0]


def _read(link, length):
    data = b""
    while len(data) < length:
        part = link.recv(length - len(data))
        if not part:
            raise ConnectionError("closed in the middle of an answer")
        data += part
    return data


def _string(data, at):
    (length,), at = struct.unpack_from(">h", data, at), at + 2
    if length < 0:
        return None, at
    return data[at:at + length].decode(), at + length
