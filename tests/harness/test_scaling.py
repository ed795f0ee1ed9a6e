"""What fits of scaling promise: they recover a law from its points, and are refused where there are too few."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.report import markdown_table, summary_table
from harness.scaling import Fit, capacity, scalings
from harness.summary import cells_of, summarise
from tests.harness.records_of import CARTPOLE, MACHINE, record

SIX = (1, 2, 3, 4, 6, 8)


def by_workers(counts, rate, blocks=3, **changes):
    """Records of `reactor` with so many workers, at `rate(workers, block)` units a second."""
    options = changes.pop("options", {})
    return [
        record("reactor", rate(n, block), block, options={"workers": n, **options}, **changes)
        for block in range(blocks)
        for n in counts
    ]


def of_law(sigma, kappa=0.0):
    return lambda n, block: 1000 * (1 + block / 10) * capacity(n, sigma, kappa)


def the_scaling(records):
    (cell,) = cells_of(summarise(records))
    (found,) = scalings(cell)
    return found


def shown(rows, **arguments):
    console = Console(width=100, file=io.StringIO())
    console.print(summary_table(rows, width=100, **arguments))
    return console.file.getvalue()


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.05))
def test_points_on_the_universal_law_give_its_parameters_back(sigma, kappa):
    found = the_scaling(by_workers((1, 2, 3, 4, 6, 8, 12, 16), of_law(sigma, kappa), blocks=1))
    assert found.universal.sigma == pytest.approx(sigma, abs=1e-4)
    assert found.universal.kappa == pytest.approx(kappa, abs=1e-5)


@given(st.floats(0.0, 0.9))
def test_points_on_amdahls_law_give_its_serial_fraction_back(sigma):
    found = the_scaling(by_workers(SIX, of_law(sigma), blocks=1))
    assert found.amdahl.sigma == pytest.approx(sigma, abs=1e-4)
    assert found.amdahl.r_squared == pytest.approx(1, abs=1e-6)
    assert found.amdahl.kappa == 0
    assert found.amdahl.peak is None


def test_noisy_points_give_parameters_that_are_close():
    rng = np.random.default_rng(5)
    found = the_scaling(by_workers(range(1, 17), lambda n, b: of_law(0.05, 0.004)(n, b) * rng.lognormal(sigma=0.02)))
    assert found.universal.sigma == pytest.approx(0.05, abs=0.02)
    assert found.universal.kappa == pytest.approx(0.004, abs=0.001)
    assert found.universal.peak == pytest.approx(15, abs=2)
    assert found.universal.r_squared > 0.98
    assert found.universal.r_squared > found.amdahl.r_squared


def test_a_slow_block_changes_no_point_as_ratios_are_paired():
    found = the_scaling(by_workers(SIX, lambda n, block: n * 5.0**block))
    assert [point.over_one.high for point in found.points] == pytest.approx(SIX)
    assert found.universal.sigma == pytest.approx(0, abs=1e-6)


def test_growth_beyond_the_number_of_workers_is_held_at_no_contention():
    found = the_scaling(by_workers(SIX, lambda n, _: n**1.2))
    assert (found.amdahl.sigma, found.universal.sigma) == pytest.approx((0, 0), abs=1e-6)
    assert found.universal.peak is None


@pytest.mark.parametrize("rate", [100.0, 1.0])
def test_throughput_that_never_changes_is_all_serial_and_has_no_r_squared(rate):
    found = the_scaling(by_workers(SIX, lambda *_: rate))
    assert found.amdahl.sigma == pytest.approx(1)
    assert found.amdahl.r_squared is None


@given(st.floats(0, 1), st.floats(1e-6, 1))
def test_no_number_of_workers_is_faster_than_the_peak(sigma, kappa):
    fit = Fit(sigma=sigma, kappa=kappa, r_squared=None)
    around = [n for n in range(fit.peak - 3, fit.peak + 4) if n > 0]
    assert fit.at(fit.peak) == max(map(fit.at, around))


@given(st.sets(st.integers(1, 32), min_size=2, max_size=5))
def test_fewer_than_six_numbers_of_workers_are_refused_and_counted(counts):
    found = the_scaling(by_workers(sorted(counts), of_law(0.1)))
    assert (found.amdahl, found.universal) == (None, None)
    assert found.problem == f"measured with {len(counts)} numbers of workers; a fit of its scaling needs 6"


def test_without_one_worker_there_is_no_fit():
    found = the_scaling(by_workers(range(2, 9), of_law(0.1)))
    assert (found.universal, found.points) == (None, ())
    assert "not measured with 1 worker" in found.problem


def test_numbers_that_share_no_block_with_one_worker_are_no_points():
    records = by_workers(SIX, of_law(0.1))
    records[1] = record("reactor", 1, 9, options={"workers": 2})
    kept = [r for r in records if r.options["workers"] != 2 or r.block == 9]
    found = the_scaling(kept)
    assert found.universal is None
    assert "only 5 numbers of workers" in found.problem


@pytest.mark.parametrize("change", [{"outcome": "failed"}, {"digest": "other"}])
def test_what_is_not_valid_is_no_point(change):
    records = [record("sequential", 1, block) for block in range(3)] + by_workers(SIX, of_law(0.1))
    records[-1] = record("reactor", 1, 2, options={"workers": 8}, **change)
    assert the_scaling(records).counts == (1, 2, 3, 4, 6)


def test_a_number_that_is_left_to_the_runtime_is_no_point():
    assert the_scaling(by_workers((0, *SIX), lambda n, _: 1.0 + n)).counts == SIX


def test_only_workers_may_vary():
    records = [r for eager in (True, False) for r in by_workers(SIX[:3], of_law(0.1), options={"eager": eager})]
    (cell,) = cells_of(summarise(records))
    assert [(dict(one.options), one.counts) for one in scalings(cell)] == [
        ({"eager": True}, (1, 2, 3)),
        ({"eager": False}, (1, 2, 3)),
    ]
    assert 'reactor {"eager":true}: measured with 3 numbers of workers' in shown(summarise(records))


def test_runtimes_with_one_number_of_workers_have_no_scaling():
    assert scalings(summarise(by_workers((4,), of_law(0.1)))) == []
    assert scalings(summarise([record("ray", 1)])) == []
    assert scalings([]) == []


def test_the_points_stand_beside_the_laws_below_their_cell():
    rows = summarise(by_workers(SIX, of_law(0.05, 0.02)))
    for text in (shown(rows), markdown_table(rows)):
        assert "simulation: CartPole-v1 x 15, reactor by workers" in text
        assert "Universal Scalability Law: sigma 0.0500, kappa 0.0200, peak at 7 workers, R2 1.00." in text
        assert "Amdahl: serial fraction" in text
        assert "physical cores" not in text
    line = next(line for line in markdown_table(rows).splitlines() if line.startswith("| 8 "))
    assert [field.strip() for field in line.split("|")][2] == f"{capacity(8, 0.05, 0.02):.2f}x ({3.24:.2f}-{3.24:.2f})"


def test_a_peak_beyond_the_points_is_called_so():
    assert "(beyond what was measured)" in markdown_table(summarise(by_workers(SIX, of_law(0.05, 0.001))))


def test_more_workers_than_cores_are_noted():
    machine = MACHINE | {"physical_cores": 2}
    text = shown(summarise(by_workers(SIX, of_law(0.05), machine=machine)))
    assert "There are 2 physical cores: where there are more workers, they take turns." in text


def test_too_few_numbers_are_noted_below_the_cell():
    text = shown(summarise(by_workers((1, 2, 4), of_law(0.05))))
    assert "reactor: measured with 3 numbers of workers; a fit of its scaling needs 6." in text
    assert "by workers" not in text


def test_a_run_that_goes_on_is_not_fitted():
    text = shown(summarise(by_workers(SIX, of_law(0.05))), cells_only=True)
    assert "by workers" not in text


def test_every_cell_has_its_own():
    records = by_workers(SIX, of_law(0.05)) + by_workers(SIX, of_law(0.5), parameters=CARTPOLE | {"envs": 2})
    text = shown(summarise(records))
    assert text.index("x 15, reactor by workers") < text.index("x 2, reactor by workers")
    assert "all 2 cells" not in text
