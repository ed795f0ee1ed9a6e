"""Powers of priorities, the same bits wherever they are computed: native/power.c, operation by operation, in NumPy.

A C library's pow and NumPy's own may differ in the last bit, and from machine to machine; these are made of
additions, multiplications, one division and shifts of bits alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["power"]

_SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
_EXPONENT_ONE = np.uint64(52)
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_TWO_OVER_LN2 = float.fromhex("0x1.71547652b82fep+1")
_ROUNDER = float.fromhex("0x1.8p+52")
_ROUNDER_BITS = np.uint64(0x4338000000000000)
_OFFSET = np.uint64(2048)


def power(bases: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Each base to the exponent; both finite and not negative.

    Zero stays zero even where the exponent is 0. Exponents 0 and 1 are exact; otherwise the relative error is below
    (2 + |log2 result|) * 2^-52. What would be outside of 2^-1021 to 2^1023 is a number near that bound.
    """
    if exponent == 0:
        return (bases > 0).astype(np.float64)
    if exponent == 1:
        return bases.copy()
    return np.where(bases > 0, _exp2(exponent * _log2(bases)), 0.0)


def _polynomial(x: NDArray[np.float64], coefficients: list[float]) -> NDArray[np.float64]:
    made = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        made *= x
        made += coefficient
    return made


_ATANH = [1.0 / i for i in range(21, 0, -2)]
_EXP = [1.0 / math.factorial(i) for i in range(13, -1, -1)]


def _log2(x: NDArray[np.float64]) -> NDArray[np.float64]:
    small = x < np.finfo(np.float64).smallest_normal
    bits = (x * np.where(small, 2.0**54, 1.0)).view(np.uint64)
    k = ((bits - _SQRT_HALF_BITS + (_OFFSET << _EXPONENT_ONE)) >> _EXPONENT_ONE) - _OFFSET
    m = (bits - (k << _EXPONENT_ONE)).view(np.float64)
    whole = ((_ROUNDER_BITS + k).view(np.float64) - _ROUNDER) - np.where(small, 54.0, 0.0)
    s = (m - 1.0) / (m + 1.0)
    return s * _polynomial(s * s, _ATANH) * _TWO_OVER_LN2 + whole


def _exp2(z: NDArray[np.float64]) -> NDArray[np.float64]:
    z = np.clip(z, -1021.0, 1023.0)
    rounded = z + _ROUNDER
    g = (z - (rounded - _ROUNDER)) * _LN2
    return (_polynomial(g, _EXP).view(np.uint64) + (rounded.view(np.uint64) << _EXPONENT_ONE)).view(np.float64)
