"""What the figures promise: fixed looks, real text, the same bytes for the same rows, and a stated finding."""

import csv
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from harness import registry
from harness.drawing import BOUND, dot, look_of, new_figure
from harness.figures import write_figures
from harness.statistics import Estimate
from harness.summary import summarise
from tests.harness import records_of

OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


def record(runtime, rate, block=0, **changes):
    """An invocation; each block is a little quicker than the one before."""
    cell = {"parameters": {"env_id": "CartPole-v1", "envs": 15}}
    return records_of.record(runtime, rate * (1 + block / 50), block, **(cell | changes))


def rows(blocks=3, envs=(15,)):
    rates = {"sequential": 1000, "ray": 10, "ray-packed": 100, "reactor": 1700}
    return summarise(
        record(name, rate, block, parameters={"env_id": "CartPole-v1", "envs": number})
        for number in envs
        for block in range(blocks)
        for name, rate in rates.items()
    )


def words(path):
    """All text of an SVG, a line for each text element."""
    return [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return {file.name: file for file in write_figures(rows(), folder, "Testium 3, 2 processors")}


def test_each_figure_comes_as_svg_png_and_csv(figures):
    assert set(figures) == {f"{name}.{kind}" for name in ("throughput", "speedups") for kind in ("svg", "png", "csv")}
    assert figures["speedups.png"].read_bytes().startswith(b"\x89PNG")


def test_title_states_the_finding(figures):
    assert "reactor is 1.7x the plain loop and 17x the best Ray on CartPole-v1 x 15" in words(figures["speedups.svg"])
    assert any(text.startswith("reactor is fastest on CartPole-v1 x 15") for text in words(figures["throughput.svg"]))


def test_caption_says_how_often_how_sure_and_where(figures):
    (caption,) = [text for text in words(figures["speedups.svg"]) if "Testium" in text]
    assert "range of 3 pairs" in caption
    assert "Testium 3, 2 processors." in caption


def test_values_are_written_beside_their_dots(figures):
    assert {"1.70x", "170x", "17.0x"} <= set(words(figures["speedups.svg"]))


def test_the_csv_behind_a_figure_holds_its_rows(figures):
    with figures["speedups.csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["runtime"] for line in lines] == ["sequential", "ray", "ray-packed", "reactor"]
    assert float(lines[3]["speedup_over_ray"]) == pytest.approx(170)


def test_the_same_rows_give_the_same_bytes(figures, tmp_path):
    again = write_figures(rows(), tmp_path, "Testium 3, 2 processors")
    assert {file.name: file.read_bytes() for file in again} == {n: f.read_bytes() for n, f in figures.items()}


def test_no_date_is_written(figures):
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d", figures["speedups.svg"].read_text())


def test_an_invalid_result_is_named_and_has_no_speedup(tmp_path):
    invalid = [record("ray-packed", 100, b, digest="other") for b in range(3)]
    valid = [record(name, 1000, b) for b in range(3) for name in ("sequential", "reactor")]
    write_figures(summarise([*valid, *invalid]), tmp_path, "")
    assert "invalid" in words(tmp_path / "speedups.svg")
    assert "102 invalid" in words(tmp_path / "throughput.svg")


def test_a_bound_is_marked_and_wins_nothing(tmp_path):
    records = [record(name, rate) for name, rate in (("sequential", 1000), ("reactor", 1700))]
    write_figures(summarise([*records, record("ceiling", 1900, is_bound=True, digest=None)]), tmp_path, "")
    throughput = words(tmp_path / "throughput.svg")
    assert "ceiling (bound)" in throughput
    assert any(text.startswith("reactor is fastest on CartPole-v1 x 15") for text in throughput)
    assert not any("ceiling" in text for text in words(tmp_path / "speedups.svg"))


def test_without_a_comparison_there_is_no_figure_of_speedups(tmp_path):
    written = write_figures(summarise([record("reactor", 100)]), tmp_path, "")
    assert {file.stem for file in written} == {"throughput"}


def test_without_a_measurement_there_is_no_figure(tmp_path):
    assert write_figures(summarise([record("reactor", 1, outcome="failed")]), tmp_path, "") == []


@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_cells_is_drawn(count, tmp_path):
    write_figures(rows(envs=range(1, count + 1)), tmp_path, "")
    assert {f"CartPole-v1 x {n}" for n in range(1, count + 1)} <= set(words(tmp_path / "throughput.svg"))
    assert {f"CartPole-v1 x {n}" for n in range(1, count + 1)} <= set(words(tmp_path / "speedups.svg"))


@pytest.mark.parametrize("rate", [1e-9, 1.0, 1e12])
def test_any_magnitude_is_drawn(rate, tmp_path):
    assert write_figures(summarise([record("reactor", rate), record("sequential", rate)]), tmp_path, "")


def test_known_runtimes_have_their_fixed_colours():
    names = ("sequential", "reactor", "ray", "ray-compiled")
    assert [look_of(name).colour for name in names] == ["#000000", "#0072B2", "#D55E00", "#E69F00"]


def test_known_runtimes_differ_in_marker_and_in_colour():
    reactors = ("reactor", "reactor-inline", "reactor-threads", "reactor-processes")
    looks = [look_of(name) for name in ("sequential", *reactors, "ray", "ray-compiled", "ray-packed")]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(looks)


def test_a_bound_is_a_line_through_the_whole_panel():
    panel = new_figure(height_inches=2).subplots()
    for height, look in enumerate([look_of("reactor"), BOUND]):
        dot(panel, height, Estimate(point=3 + height, low=2, high=5, n=6, kind="range"), look, hollow=False)
    through = [line for line in panel.lines if list(line.get_ydata()) == [0, 1] and len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in through] == [4]


def test_every_runtime_of_the_project_has_a_look_of_its_own():
    names = [plugin.name for plugin in registry.runtimes() if plugin.name != "ceiling"]
    # Libraries that do nothing but replay are never in one figure with runtimes that run graphs.
    of_replay = [name for name in names if name.startswith("replay-")]
    ours_too = ["sequential", "reactor", *of_replay]
    for together in (set(names) - set(of_replay), ours_too):
        looks = {look_of(name) for name in together}
        assert len(looks) == len(together)
        assert all(look.colour in OKABE_ITO for look in looks)


def test_an_unknown_runtime_keeps_its_look_from_process_to_process():
    program = "from harness.drawing import look_of; print(look_of('plugin'))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(look_of("plugin"))
    assert look_of("plugin").colour in OKABE_ITO


def test_drawing_leaves_the_settings_of_a_caller_who_plots_alone(tmp_path):
    from matplotlib import rcParams

    before = dict(rcParams)
    write_figures(rows(1), tmp_path, "")
    assert dict(rcParams) == before
