"""A codec that changes with the environment."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.plugin import install

PADDED = '''
import os
from icm_bench.testing import FakeCodec

class Padded(FakeCodec):
    """Appends a share of filler to every bitstream, and may forget the picture."""

    name = "padded"

    def encode(self, image):
        data = super().encode(image)
        filler = round(float(os.environ["PADDED_SHARE"]) * len(data)) * os.environ.get("PADDED_BYTE", "x").encode()
        return data + filler + len(filler).to_bytes(4, "big")

    def decode(self, data):
        end = len(data) - 4 - int.from_bytes(data[-4:], "big")
        image = super().decode(data[:end])
        return image * 0 + 90 if os.environ.get("PADDED_BLANK") else image

    def version(self):
        return f"padded {sorted(item for item in os.environ.items() if item[0].startswith('PADDED'))}"
'''


def install_padded(plugins: Path) -> None:
    """Install the codec ``padded``, which ``PADDED_SHARE``, ``PADDED_BYTE`` and ``PADDED_BLANK`` change."""
    (plugins / "padded_codec.py").write_text(PADDED)
    install(plugins, "codecs", padded="padded_codec:Padded")
