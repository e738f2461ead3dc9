"""PNG files that no library writes."""

from __future__ import annotations

import struct
import zlib


def png_of(width: int, height: int, rows: bytes = b"", depth: int = 8) -> bytes:
    """Return a file that claims to be an image of three channels, whatever its rows, each after its filter, hold."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data
