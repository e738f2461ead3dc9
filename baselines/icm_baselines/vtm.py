"""VVC (H.266) intra pictures, by the reference software VTM."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from icm_baselines import envelope, nal, vvc
from icm_baselines import scale as scaling
from icm_baselines.option import short_label, whole
from icm_baselines.scale import Percent
from icm_bench import color
from icm_bench.codec import Programs, Quality
from icm_bench.error import ProgramError
from icm_bench.image import Image
from icm_bench.program import Call, run, version_of

TIMEOUT_S = 3600.0
"""Longest time that one picture may take, in seconds."""

_ENCODER, _DECODER, _SETTINGS = "EncoderAppStatic", "DecoderAppStatic", "encoder_intra_vtm.cfg"
_HINT = "build VTM and name the folder of its executables by --vtm or ICM_BENCH_VTM"
_MULTIPLE = 8  # VTM's smallest coding block: no conformance window is needed
_SMALLEST_SIDE = 16


class Vtm:
    """VVC intra at a fixed QP by VTM both ways, in its all-intra configuration.

    Pictures are coded at 10 bit, BT.709, limited range. The bitstream is the whole Annex B byte stream
    after the two bytes of :mod:`icm_baselines.envelope`. VTM is looked for in ``dir``, in the folder of
    ``programs``, in the one that the environment variable ``ICM_BENCH_VTM`` names, then on PATH: ``EncoderAppStatic``,
    ``DecoderAppStatic``, and beside them or in ``cfg`` beside their folder ``encoder_intra_vtm.cfg``.

    Args:
        quality: QP of the picture, 0 to 63; fewer bits the higher.
        device: Ignored; VTM runs on the CPU, on one thread.
        chroma: Chroma format, 4:2:0 or 4:4:4.
        scale: Size in percent at which the picture is coded, see :mod:`icm_baselines.scale`.
        dir: Folder of VTM's executables; empty to look elsewhere.
        programs: Names that folder where ``dir`` does not.
    """

    name: ClassVar[str] = "vtm"
    qualities: ClassVar[tuple[Quality, ...]] = (47, 42, 37, 32, 27, 22)

    def __init__(
        self,
        quality: Quality,
        *,
        device: str = "cpu",
        chroma: color.Chroma = "420",
        scale: Percent = "100",
        dir: str = "",  # noqa: A002 # the option's name on the command line
        programs: Programs | None = None,
    ) -> None:
        del device
        self._qp = whole(quality, 0, 63, where="vtm QP")
        self._form = color.PlaneFormat(chroma, 10, "bt709", "limited")
        self._percent = scale
        self._folder = dir or (str(programs.vtm) if programs is not None and programs.vtm else "")

    @classmethod
    def label(cls, options: Mapping[str, str]) -> str:
        """Return the name and what the options say, but for the folder."""
        return short_label("VTM", options, unsaid="dir")

    def s_per_megapixel(self) -> float:
        """Return about 100 s at the middle of the ladder, and twice that eight QPs below."""
        return float(100.0 * 2.0 ** ((34 - self._qp) / 8) * (int(self._percent) / 100) ** 2)

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of an image."""
        return scaling.encode(image, self._percent, self._encode_coded_size)

    def decode(self, data: bytes) -> Image:
        """Return the image of a bitstream."""
        return scaling.decode(data, self._decode_coded_size)

    def version(self) -> str:
        """Name the layout of the bitstream, VTM as its encoder does, and the start of the executables' SHA-256."""
        encoder = self._program(_ENCODER)
        files = (encoder, self._program(_DECODER), self._settings())
        programs = version_of("VTM", (encoder, "--help"), r"Version (\S+)", files, success=(0, 1))
        return f"{scaling.layout(self._percent)}, {programs}"

    def header_bytes(self, data: bytes) -> int:
        """Return the bytes of envelope, parameter sets (adaptation parameter sets too) and start codes."""
        before = scaling.head_bytes(data) + envelope.N_BYTES
        return before + nal.overhead_bytes(data[before:], vvc.is_slice)

    def _encode_coded_size(self, image: Image) -> bytes:
        height, width = image.shape[:2]
        rows, columns = _coded_side(height), _coded_side(width)
        planes = color.to_planes(color.padded(image, columns, rows), self._form)
        arguments = (
            *("-c", self._settings(), "-i", "picture.yuv", "-b", "coded", "-o", ""),
            *("-wdt", str(columns), "-hgt", str(rows), "-fr", "1", "-f", "1", "-ts", "1"),
            *(
                "-q",
                str(self._qp),
                "--InputBitDepth=10",
                "--InternalBitDepth=10",
                "--ConformanceWindowMode=1",
            ),
            *(f"--InputChromaFormat={self._form.chroma}", "--SEIDecodedPictureHash=0"),
        )
        call = Call(
            [self._program(_ENCODER), *arguments],
            inputs={"picture.yuv": color.to_bytes(planes, self._form)},
            output="coded",
            timeout_s=TIMEOUT_S,
        )
        stream = run(call)
        vvc.check_picture_size(stream, columns, rows, where=_ENCODER)
        return envelope.Envelope(stream, columns - width, rows - height).pack()

    def _decode_coded_size(self, data: bytes) -> Image:
        packed = envelope.unpack(data)
        vvc.check_claim(packed.stream, where="VTM")
        columns, rows = vvc.picture_size(packed.stream)
        call = Call(
            [self._program(_DECODER), "-b", "coded", "-o", "picture.yuv", "-d", "10"],
            inputs={"coded": packed.stream},
            output="picture.yuv",
            n_bytes=self._form.n_bytes(columns, rows),
            timeout_s=TIMEOUT_S,
        )
        planes = color.from_bytes(run(call), self._form, columns, rows)
        return packed.crop(color.to_image(planes, self._form))

    def _program(self, name: str) -> str:
        folder = self._folder or os.environ.get("ICM_BENCH_VTM", "")
        path = shutil.which(name, path=folder or None)
        if path is None:
            raise ProgramError(f"no such program in {folder or 'PATH'}", where=name, hint=_HINT)
        return str(Path(path).resolve())

    def _settings(self) -> str:
        folder = Path(self._program(_ENCODER)).parent
        for candidate in (folder / _SETTINGS, folder / "cfg" / _SETTINGS, folder.parent / "cfg" / _SETTINGS):
            if candidate.is_file():
                return str(candidate)
        raise ProgramError(
            f"not found near {folder}", where=_SETTINGS, hint="copy it beside VTM's executables"
        )


def _coded_side(side: int) -> int:
    return max(_SMALLEST_SIDE, side + -side % _MULTIPLE)
