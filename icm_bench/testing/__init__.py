"""What every codec and every detector must do, as checks that any test suite can call, and a small real fake of each.

A plug-in's own tests need one line each::

    def test_conformance() -> None:
        check_codec(MyCodec)

Checks raise ``AssertionError``; the message names the codec, the check and what was seen. They need no test
framework.
"""

from icm_bench.testing.codec import SIZES, ThreadsWarning, check_codec
from icm_bench.testing.detector import check_detector
from icm_bench.testing.fake import FakeCodec, FakeDetector
from icm_bench.testing.image import photograph

__all__ = [
    "SIZES",
    "FakeCodec",
    "FakeDetector",
    "ThreadsWarning",
    "check_codec",
    "check_detector",
    "photograph",
]
