"""What all tests share: the settings of hypothesis and of the libraries, and the top of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# As the harness sets it for what it measures: two libraries with a thread for each processor make tests
# on small machines slow, and the child processes of tests inherit it. Set before anything reads it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# No test fails because the machine is slow: examples have no deadline.
hypothesis.settings.register_profile(
    "reactorbench", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("reactorbench")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the working tree."""
    return Path(__file__).resolve().parents[1]
