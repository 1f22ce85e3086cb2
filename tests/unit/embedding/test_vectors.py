import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.embedding.vectors import OutputType, convert, shorten

ROWS = arrays(np.float32, (3, 16), elements=st.floats(-1, 1, width=32))


@given(ROWS)
def test_scaled_formats_are_within_half_a_step(rows):
    assert np.abs(convert(rows, OutputType.INT8) / 127 - rows).max() <= 0.501 / 127
    unsigned = convert(rows, OutputType.UINT8)
    assert np.array_equal(unsigned.astype(int) - 128, convert(rows, OutputType.INT8))


@given(ROWS)
def test_binary_formats_hold_the_signs(rows):
    bits = convert(rows, OutputType.UBINARY)
    assert np.array_equal(np.unpackbits(bits, axis=1), rows > 0)
    assert np.array_equal(convert(rows, OutputType.BINARY).astype(int), bits.astype(int) - 128)


def test_a_shortened_vector_has_length_one():
    assert np.allclose(shorten(np.array([[3, 4, 12]], np.float32), 2), [[0.6, 0.8]])
