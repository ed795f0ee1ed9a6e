"""What the runner decides before an invocation starts."""

from __future__ import annotations

import re

import pytest

from harness.job import Load
from harness.machine import Memory, available_memory
from harness.runner import Checked

PAIRING = ("broadcast_gather", "{}", "ray", "{}")


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (Memory(nbytes=4_000_000_000, shared_nbytes=1_000_000_000), None),
        (Memory(nbytes=4_000_000_000, shared_nbytes=None), None),
        (Memory(nbytes=2_000_000_000, shared_nbytes=None), "3.00 GB of memory, and 2.00 GB are available"),
        (Memory(nbytes=4_000_000_000, shared_nbytes=64_000_000), "has 64.0 MB free.*--shm-size"),
    ],
)
def test_what_does_not_fit_into_memory_or_shared_memory_is_skipped_with_the_reason(memory, reason):
    checked = Checked(loads={PAIRING: Load(memory_bytes=3_000_000_000, shared_memory_bytes=1_000_000_000)})

    found = checked.skips(memory).get(PAIRING)
    assert found is None if reason is None else re.search(reason, found)


def test_this_machine_has_memory():
    available = available_memory()

    assert available.nbytes > 0
    assert available.shared_nbytes is None or available.shared_nbytes >= 0
