"""Operations that networks take are counted while they code."""

from __future__ import annotations

from pathlib import Path

import torch

from icm_bench.codec import complexity_of
from icm_bench.curves.result import load
from icm_bench.image import Image
from icm_bench.pipeline.fact import complexity_facts
from icm_bench.report import record, table
from icm_bench.spec import create_codec, resolve_codec
from icm_bench.testing import photograph
from icm_codecs.operation import complexity


class TwoLayers:
    """Known operations: 3 x 8 x 25 products for a quarter of the pixels to encode, 8 x 3 for each to decode."""

    def encode(self, image: Image) -> bytes:
        samples = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        found = torch.nn.functional.conv2d(samples, torch.ones(8, 3, 5, 5), stride=2, padding=2)
        return bytes(found.shape[-1])

    def decode(self, data: bytes) -> Image:
        side = 2 * len(data)
        found = torch.nn.functional.conv2d(torch.ones(1, 8, side, side), torch.ones(3, 8, 1, 1))
        return found[0].permute(1, 2, 0).byte().numpy()


def test_convolutions_are_counted_per_pixel_of_the_image() -> None:
    found = complexity(TwoLayers(), photograph(64, 64))
    assert (found.encoder_kmac, found.decoder_kmac) == (3 * 8 * 25 / 4 / 1e3, 8 * 3 / 1e3)


def test_a_shipped_codec_counts_its_networks_and_a_classical_one_has_none() -> None:
    spec, _ = resolve_codec("hyperprior")
    facts = complexity_facts(spec, [1, 8])
    assert facts["parameters"] > 1e6
    assert all(10 < value < 50 for key in ("encoder_kmac", "decoder_kmac") for value in facts[key])
    assert len(facts["encoder_kmac"]) == 2
    jpeg, _ = resolve_codec("jpeg")
    assert complexity_facts(jpeg, [5, 60]) == {}
    assert complexity_of(create_codec(jpeg, 60, "cpu"), photograph(16, 16)) is None


def test_tables_and_records_of_operating_points_show_them_where_a_codec_has_networks() -> None:
    folder = Path(__file__).parents[2] / "results" / "coco-partial100" / "detection" / "yolox"
    learned, classical = load(folder / "tucodec.json"), load(folder / "jpeg.json")
    shown = table.of_run([learned, classical])
    assert shown.header[-2:] == ("enc kMAC", "dec kMAC")
    cells = {(row[0], row[-2] != "") for row in shown.rows}
    assert cells == {("tucodec", True), ("jpeg", False), ("uncompressed", False)}
    assert any("Parameters: tucodec 3.03 M." in note for note in shown.notes)
    assert "enc kMAC" not in table.of_run([classical]).header
    rows = record.of_points([learned, classical])
    assert [("encoder_kmac" in row, "parameters" in row) for row in rows] == [
        (row["codec"] == "tucodec",) * 2 for row in rows
    ]
