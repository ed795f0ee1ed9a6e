"""The paper's figures: published beside measured, in the published unit, and every dot leads back to its records."""

from __future__ import annotations

import csv
from xml.etree import ElementTree as ET

import pytest

from harness.errors import UsageError
from harness.paper import experiment
from harness.paper_figures import write_paper_figures
from harness.records import RecordFile
from tests.harness.paper_records import paper_records

ALL = (1, 2, 3, 4, 5, 6)


def too_large(invocation):
    large = invocation.cell.name == "figure2-500MB"
    return {"outcome": "skipped", "reason": "it may take 26 GB"} if large else {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    file = RecordFile(folder)
    for record in paper_records(change=too_large):
        file.append(record)
    return folder


@pytest.fixture(scope="module")
def figures(run):
    return {path.name: path for path in write_paper_figures(run, ALL)}


def words(path):
    """All text of an SVG; a line of it for each text element."""
    return [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def lines_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_figure_comes_as_svg_png_and_csv(figures):
    assert set(figures) == {f"figure{number}.{kind}" for number in ALL for kind in ("svg", "png", "csv")}


@pytest.mark.parametrize("number", ALL)
def test_every_published_value_is_in_the_figure_and_its_csv(figures, number):
    published = [line for line in lines_of(figures[f"figure{number}.csv"]) if line["published"] == "True"]

    for point in experiment(number).points:
        values = [float(line["value"]) for line in published if line["point"] == point.label]
        assert values == [point.ray, point.lf, pytest.approx(experiment(number).published_ratio(point))]
    assert {"Ray, published", "LF, published"} <= set(words(figures[f"figure{number}.svg"]))


@pytest.mark.parametrize("number", ALL)
def test_every_measured_value_follows_from_the_records_that_its_line_names(figures, run, number):
    records, one = RecordFile(run).read(), experiment(number)
    lines = [line for line in lines_of(figures[f"figure{number}.csv"]) if line["published"] == "False"]

    assert {"reactor", "ray"} <= {line["series"].partition(" ")[0] for line in lines}
    for line in lines:
        named = [records[int(at) - 1] for at in line["record_lines"].split()]
        assert named
        if line["quantity"] == one.unit:
            seconds = sum(r.measured_s for r in named) / sum(r.measured_rounds for r in named)
            expected = one.value(15 / seconds, 15, named[0].parameters)
            assert float(line["value"]) == pytest.approx(expected)
            assert len({r.runtime for r in named}) == 1


def test_ratios_are_paired_over_ray_as_published_ray_and_the_best_ray(figures):
    lines = [line for line in lines_of(figures["figure4.csv"]) if line["quantity"] == "times as fast"]
    pong = {line["series"]: float(line["value"]) for line in lines if line["point"] == "Pong"}

    assert pong["over ray-by-value"] == pytest.approx(40)
    assert pong["over ray"] == pytest.approx(20)
    assert pong["over best Ray"] == pytest.approx(4)
    assert {"40.0x", "20.0x", "4.00x"} <= set(words(figures["figure4.svg"]))


def test_title_and_caption_say_what_was_found_how_often_and_where(figures):
    text = " ".join(words(figures["figure6.svg"]))

    assert "reactor is 40.0x ray-by-value and 4.00x the best Ray (published: 3.48x)" in text
    assert "range of 3 pairs" in text
    assert "Testium 3, 2 processors." in text


def test_a_protocol_without_sleep_and_what_was_skipped_stand_in_the_caption(figures):
    assert "here nobody sleeps" in " ".join(words(figures["figure1.svg"]))
    text = " ".join(words(figures["figure2.svg"]))
    assert "skipped: 500 MB on ray" in text


def test_the_same_records_give_the_same_bytes(figures, run):
    before = {name: path.read_bytes() for name, path in figures.items()}
    write_paper_figures(run, [3, 5])

    assert {name: path.read_bytes() for name, path in figures.items()} == before


def test_a_figure_without_any_record_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="reactorbench reproduce 3"):
        write_paper_figures(tmp_path, [3])
