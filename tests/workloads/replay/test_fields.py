"""Fields: what their dtypes are, whatever they were given as."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.replay.fields import fields_of


@pytest.mark.parametrize("given", ["float32", "<f4", ">f4", np.float32, np.dtype("float32").newbyteorder("=")])
def test_a_field_has_numpys_own_dtype_so_that_arrays_are_recognised_by_it(given):
    (field,) = fields_of({"reward": ((), given)})

    assert field.dtype is np.zeros(1, np.float32).dtype
