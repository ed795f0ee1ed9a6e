"""Powers of priorities: close to the true ones, and the same bits in C and in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from tests.workloads.replay.kernels import NATIVE
from workloads.replay.power import power

BASES = st.floats(0, 1e308) | st.floats(0, 1) | st.floats(0.999, 1.001) | st.sampled_from([0.0, 1.0, 5e-324, 2.0])
EXPONENTS = st.floats(0, 10) | st.sampled_from([0.0, 0.4, 0.5, 0.6, 1.0, 2.0, 1e-300])


@pytest.mark.skipif(NATIVE is None, reason="the native part was not built")
@settings(max_examples=50)
@given(of_numpy.arrays(np.float64, st.integers(0, 20), elements=BASES), EXPONENTS)
def test_c_and_numpy_make_the_same_bits(bases, exponent):
    assert NATIVE.power(bases, exponent).tobytes() == power(bases, exponent).tobytes()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="there is no longer floating-point type to compare with")
@pytest.mark.parametrize("exponent", [0.4, 0.5, 0.6, 1.5, 3.0, 1e-9])
@pytest.mark.parametrize("spread", [1000.0, 30.0, 0.001])
def test_the_error_is_as_small_as_promised(exponent, spread):
    bases = 2.0 ** np.random.default_rng(0).uniform(-spread, min(spread, 1000 / max(exponent, 1)), 20_000)
    exact = bases.astype(np.longdouble) ** np.longdouble(exponent)
    inside = (exact > 2.0**-1020) & (exact < 2.0**1022)

    errors = np.abs(power(bases, exponent) - exact)[inside] / exact[inside]

    assert (errors <= (2 + np.abs(np.log2(exact[inside]))) * 2.0**-52).all()


def test_zero_stays_zero_and_exponents_of_zero_and_one_are_exact():
    bases = np.array([0.0, 1e-9, 0.3, 7.0])

    assert power(bases, 0.0).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert power(bases, 1.0).tolist() == bases.tolist()
    assert power(bases, 0.6)[0] == 0.0


@settings(max_examples=50)
@given(st.lists(BASES, min_size=2, max_size=20), EXPONENTS)
def test_no_power_is_infinite_and_none_but_that_of_zero_is_zero(bases, exponent):
    powers = power(np.array(bases), exponent)

    assert np.isfinite(powers).all()
    assert ((powers > 0) == (np.array(bases) > 0)).all()
