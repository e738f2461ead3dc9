from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from icm_codecs.bitstream.quantiser import Quantiser
from icm_codecs.tucodec.table import laplacian_tables

TABLES = laplacian_tables()


def bits(symbol: int, index: int) -> float:
    frequencies = TABLES.select(index, index + 1).frequencies
    return 16 - float(np.log2(frequencies[symbol - int(TABLES.offsets[index])]))


@given(st.floats(-6.0, 6.0), st.integers(20, 63), st.floats(0.0, 0.3))
def test_symbol_is_the_cheaper_of_the_nearest_and_the_next_towards_zero(
    value: float, index: int, price: float
) -> None:
    quantiser = Quantiser(TABLES, price, "cpu")
    found = int(quantiser.apply(torch.tensor([value], dtype=torch.float64), torch.tensor([index]))[0])
    nearest = round(value)
    costs = {
        symbol: (value - symbol) ** 2 + price * bits(symbol, index)
        for symbol in {nearest, nearest - int(np.sign(nearest))}
    }
    assert costs[found] <= min(costs.values()) + 1e-9


def test_without_a_price_symbols_are_the_nearest_and_bounded() -> None:
    quantiser = Quantiser(TABLES, 0.0, "cpu")
    values = torch.tensor([0.4, -2.6, 17.2, 1e9], dtype=torch.float64)
    assert quantiser.apply(values, torch.tensor([40, 40, 40, 40])).tolist() == [0, -3, 17, 2**15 - 1]
