from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icm_bench.error import CodecError
from icm_bench.image import Image
from icm_codecs.bitstream.container import MOST_PIXELS_A_BYTE, Frame, least_payload, seal, unpack, varint
from icm_codecs.hyperprior.codec import Hyperprior

CAMPAIGN = Path(__file__).parents[1] / "campaigns" / "forged_size.py"
LEARNED = [
    "content-weighted",
    "hyperprior",
    "icm:domain=photos:objective=mse",
    "icm:domain=scenes:objective=detection",
    "rnn-gdn",
    "rnn-gdn:coding=adaptive",
    "tucodec",
]


@pytest.mark.slow
def test_a_few_bytes_that_claim_67_megapixels_are_refused_at_once_by_every_learned_codec() -> None:
    # In a process of its own, whose memory no other test has used.
    command = [sys.executable, str(CAMPAIGN), "--codecs", *LEARNED, "--count", "1", "--most-seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 1 refused, slowest") == len(LEARNED)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_large_flat_image_is_filled_up_to_what_its_size_needs_and_comes_back() -> None:
    codec = Hyperprior(1)
    image: Image = np.full((512, 4096, 3), 128, np.uint8)
    data = codec.encode(image)
    assert len(unpack(data).payload) >= least_payload(4096, 512)
    assert codec.decode(data).shape == image.shape


def test_a_payload_too_short_for_its_size_is_filled_and_one_byte_less_is_refused() -> None:
    side = 2048
    frame = Frame(b"ab", 0, side, side, b"")
    whole = unpack(frame.pack())
    assert whole.payload == bytes(side * side // MOST_PIXELS_A_BYTE)
    # A frame that says 16 rows more than its bytes allow, with a check that holds.
    head = frame.pack()[:3] + varint(side) + varint(side + 16)
    with pytest.raises(CodecError, match="too few for an image of 2048x2064"):
        unpack(seal(head + whole.payload))
