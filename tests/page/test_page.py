"""What a page is made of: rows from a check or a run, words, numbers, and a file that is safe and small."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from harness.cli import main
from harness.page import PAGE_NAME, write_check_page, write_run_page
from harness.page import render as rendering
from harness.page.charts import as_svg, detail_charts, forest
from harness.page.from_check import check_page
from harness.page.from_run import run_page
from harness.page.model import LOOKS, counts_of, round_quantiles
from harness.page.render import MOST_BYTES, render
from harness.page.telling import machine_rows
from harness.plan import PlanFile
from harness.records import RecordFile
from harness.regression.check import judged_folder
from harness.regression.judging import Verdict
from harness.summary import RowOutcome, summarise
from tests.page.folders import (
    LONG,
    NASTY,
    VERDICTS,
    check_records,
    invocation,
    run_records,
    write_check,
    write_folder,
)


def page_of_check(folder, records=None, **names):
    write_check(folder, records, **names)
    stored = RecordFile(folder).read()
    return check_page(judged_folder(folder), stored, stored, plan=PlanFile(folder).read(), second_pairs=24)


def page_of_run(records):
    return run_page(summarise(records), records, plan=None, warnings=())


class Reader(HTMLParser):
    """Collects the elements of a page, the text outside scripts, and the scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.said, self.scripts = [], [], [], {}
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id", "") if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.said.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def data(self, name):
        return json.loads(self.scripts[name])


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return page_of_check(tmp_path_factory.mktemp("check"), check_records(values=30))


@pytest.fixture(scope="module")
def check_text(check):
    return render(check)


def row_of(page, name):
    return next(row for row in page.rows if row.parameters["env_id"] == name and row.runtime == "reactor")


# ------------------------------------------------------------------------------------------- a check


def test_each_verdict_of_a_check_is_a_row_with_its_numbers(check):
    assert {name: row_of(check, name).verdict for name in VERDICTS} == VERDICTS
    slow = row_of(check, "slow")
    assert slow.ratio.point == pytest.approx(0.87, rel=0.01)
    assert slow.base_units_per_s == pytest.approx(1000, rel=0.05)
    assert slow.ratio.n == 24
    assert [pair.counts for pair in slow.pairs] == [False] * 12 + [True] * 24
    assert len(slow.base_records) == len(slow.head_records) == 36
    assert slow.quantiles_s["p50"] == pytest.approx(15 / 870, rel=0.05)


def test_a_pair_has_the_ratio_of_the_judgement(check):
    for row in check.rows:
        counted = sorted(pair.ratio for pair in row.pairs if pair.counts)
        if row.ratio is not None:
            assert counted[0] <= row.ratio.point <= counted[-1]


def test_the_finding_of_a_check_names_the_worst_first(check, tmp_path):
    assert check.finding.startswith("Of 11 cells, 1 failed, 1 is invalid, 1 timed out, 1 is slower")
    assert page_of_check(tmp_path, check_records(["steady"], values=30)).finding == "The one cell is the same"


def test_a_row_of_a_check_says_how_to_measure_it_again(check):
    command = row_of(check, "slow").command.replace(" \\\n   ", "")
    assert command == (
        "reactorbench check --workload simulation --set env_id=slow --set envs=15 --set fragment=1 --runtime reactor "
        "--seed 0 --warmup-rounds 50 --rounds 50 --measure-s 0.5 --base PYTHON-OF-BASE --head PYTHON-OF-HEAD"
    )


def test_every_verdict_and_outcome_has_a_look():
    assert {verdict.value for verdict in Verdict} <= set(LOOKS)
    assert set(RowOutcome.__args__) - {"ok"} <= set(LOOKS)
    assert len({(look.tone, look.icon) for look in LOOKS.values()}) >= len(LOOKS) - 1


# --------------------------------------------------------------------------------------------- a run


def test_runtimes_of_a_run_are_compared_with_the_plain_loop():
    page = page_of_run(run_records(pairs=6, values=30))
    assert {row.runtime: row.verdict for row in page.rows} == {
        "sequential": "reference",
        "reactor": "faster",
        "ray": "slower",
        "ray-packed": "slower",
    }
    reactor = page.rows[1]
    assert reactor.ratio.point == pytest.approx(1.8, rel=0.02)
    assert reactor.over_best_ray.point == pytest.approx(4.5, rel=0.02)
    assert [pair.ratio for pair in reactor.pairs] == pytest.approx([1.8] * 6, rel=0.05)
    assert reactor.detectable is not None


def test_fewer_than_six_pairs_have_a_range_and_no_verdict():
    page = page_of_run(run_records(pairs=5, values=30))
    assert [row.verdict for row in page.rows] == ["reference", "range", "range", "range"]
    assert page.rows[1].detectable is None


@pytest.mark.parametrize("outcome", ["failed", "timeout", "skipped"])
def test_what_did_not_end_well_says_so(outcome):
    records = run_records(pairs=1, values=30)
    records += run_records(rates={"xronos": 5}, pairs=1, values=0, outcome=outcome, reason="why")
    row = page_of_run(records).rows[-1]
    assert (row.verdict, row.ratio) == (outcome, None)
    assert "why" in row.reasons[0]


def test_bounds_and_what_differs_are_marked_and_listed_under_fairness():
    records = run_records(pairs=6, values=30)
    records += run_records(rates={"ceiling": 5000}, pairs=6, values=30, is_bound=True)
    records += run_records(rates={"envpool": 900}, pairs=6, values=30, differs="it has its own environments")
    page = page_of_run(records)
    bound, other = page.rows[-2:]
    assert (bound.verdict, bound.runtime) == ("bound", "ceiling (bound)")
    assert other.runtime == "envpool (units only)"
    assert any("it has its own environments" in line for line in page.fairness)
    assert any(line.startswith("ceiling is a bound") for line in page.fairness)


def test_without_a_plain_loop_there_is_nothing_to_compare_with():
    page = page_of_run(run_records(rates={"reactor": 5}, values=30))
    assert [row.verdict for row in page.rows] == ["measured"]
    assert forest(page.rows, band=0.05) is None
    assert "<table" in render(page)


def test_a_row_of_a_run_says_how_to_measure_it_again():
    command = page_of_run(run_records(pairs=2, values=30, options={"workers": 2})).rows[1].command
    assert command.replace(" \\\n   ", "") == (
        "reactorbench run --workload simulation --set env_id=CartPole-v1 --set envs=15 --set fragment=1 "
        "--runtime reactor:workers=2 --runtime sequential --seed 0 --warmup-rounds 50 --rounds 50 --invocations 2"
    )


def test_quantiles_of_old_records_are_computed_where_every_round_is_there():
    old = invocation("reactor", "CartPole-v1", 0, round_quantiles_s=None)
    assert round_quantiles(old)["p50"] == pytest.approx(sorted(old.rounds_s)[120], rel=0.01)
    batched = invocation("reactor", "CartPole-v1", 0, round_quantiles_s=None, rounds_per_value=5)
    assert round_quantiles(batched) == {"p50": None, "p95": None, "p99": None}


def test_scaling_and_claims_are_left_out_where_there_is_nothing_to_show():
    page = page_of_run(run_records(pairs=1, values=30))
    assert (page.scaling, page.claims) == ((), ())
    assert 'id="scaling"' not in render(page)
    assert 'id="claims"' not in render(page)


def test_several_numbers_of_workers_make_a_line():
    records = [r for n in (1, 2) for r in run_records(rates={"reactor": 100 * n}, values=30, options={"workers": n})]
    (scaling,) = page_of_run(records).scaling
    assert [(runtime, workers) for runtime, workers, _ in scaling.points] == [("reactor", 1), ("reactor", 2)]
    assert "6" in scaling.notes[0]


# ------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize("name", [NASTY, LONG, "a'b\"c<d>&e", "\u2028\u2029"])
def test_a_name_is_text_whatever_is_in_it(name, tmp_path):
    records = [
        invocation("reactor", name, block, side=side, digest="d", values=8, options={"note": name})
        for block in range(12)
        for side in ("base", "head")
    ]
    page = page_of_check(tmp_path, records, base_name=name, head_name=name)
    reader = Reader(render(page))
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 7
    assert not [attributes for _, attributes in reader.attributes if any(one.startswith("on") for one in attributes)]
    assert name in "".join(reader.said)
    assert reader.data("data")["head"] == name
    assert reader.data("specs")["forest"]["data"]["values"][0]["name"].count(name) == 1


def test_json_in_the_page_has_no_markup(check_text):
    for name in ("data", "specs", "templates"):
        (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', check_text, re.DOTALL)
        assert not set(text) & set("<>&")
        assert json.loads(text)


def test_the_page_loads_nothing_and_says_so_to_the_browser(check_text):
    reader = Reader(check_text)
    policy = next(a["content"] for t, a in reader.attributes if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    links = [value for _, a in reader.attributes for key, value in a.items() if key in ("src", "href", "xlink:href")]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert "@import" not in reader.scripts[""]


def test_the_library_stands_in_the_page_once(check_text):
    assert check_text.count("vegaEmbed=") + check_text.count("window.vegaEmbed") < 4
    assert len(check_text.encode()) < 2_000_000


def test_sections_stand_in_their_order(check_text):
    names = ["trouble", "ratios", "table", "fairness", "machine", "method", "details"]
    places = [check_text.index(f'<section id="{name}"') for name in names]
    assert places == sorted(places)


def test_ids_are_unique(check_text):
    ids = [attributes["id"] for _, attributes in Reader(check_text).attributes if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_invocation_is_in_the_data_with_few_values(check, check_text):
    data = Reader(check_text).data("data")
    assert len(data["durations"]) == len(
        {
            (side, r.line)
            for row in check.rows
            for side, rs in (("b", row.base_records), ("h", row.head_records))
            for r in rs
            if r.record.rounds_s
        }
    )
    slow = row_of(check, "slow")
    assert len(data["rows"][str(slow.number)]["head"]) == 36
    assert all(len(one["o"]) + len(one["q"]) <= 200 for one in data["durations"].values())


def test_a_large_page_is_thinned_until_it_fits_and_says_so(check, monkeypatch):
    monkeypatch.setattr(rendering, "_bundle", lambda: "")
    whole = len(render(check).encode())
    texts = [render(check, most_bytes=int(whole * share)) for share in (0.8, 0.55)]
    for text, share in zip(texts, (0.8, 0.55), strict=True):
        assert len(text.encode()) <= whole * share
    assert "medians of consecutive ones" in texts[0] or "no durations of rounds" in texts[0]
    assert "Lines of records.jsonl: base" in texts[1]
    assert all(text.count('class="detail"') == len(check.rows) for text in texts)


def test_the_published_run_fits_in_three_megabytes(repository, tmp_path):
    folder = shutil.copytree(repository / "results" / "published" / "paper-small", tmp_path / "run")
    path = write_run_page(folder)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= MOST_BYTES == 3_000_000
    assert 'id="claims"' in text
    assert "Gymnasium throughput" in text
    assert len(Reader(text).data("data")["durations"]) > 400
    assert "of each invocation" in text.lower()


def test_figures_are_drawn_beforehand_with_the_colours_of_the_page(check, check_text):
    svg = as_svg(forest(check.rows, band=0.05))
    assert 'fill="var(--ink)"' in svg
    assert set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]+|[a-z]+)"', svg)) <= {"none", "transparent", "black"}
    assert check_text.count('class="marks"') >= 1
    assert all(spec["data"] == {"values": []} for spec in detail_charts().values())


def test_facts_of_the_machine_are_told_whatever_they_are():
    rows = dict(
        machine_rows(
            {
                "cpu_model": "X",
                "load_average": 3,
                "packages": {"numpy": "2"},
                "fingerprint": {"turbo": False, "numa": [0, 1], "caches": {"l2": 5}, "gone": None},
            }
        )
    )
    assert rows == {"Processor": "X", "Packages": "numpy 2", "Turbo": "no", "Numa": "0, 1", "Caches": "l2 5"}


def test_counts_are_worst_first(check):
    assert list(counts_of(check.rows))[:3] == ["slower", "failed", "timeout"]


# --------------------------------------------------------------------------------- shipped and called


def test_the_sorting_library_is_the_one_that_is_named(repository):
    static = repository / "harness" / "page" / "static"
    (line,) = [li for li in (static / "README.md").read_text(encoding="utf-8").splitlines() if "5.7.1" in li]
    digest = hashlib.sha256((static / "tablesort.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in line
    assert "MIT" in line
    assert (static / "tablesort.LICENCE.txt").read_text(encoding="utf-8").startswith("Copyright (c) Tristen Brown")


@pytest.mark.parametrize("kind", ["run", "check"])
def test_report_writes_the_page_where_it_is_asked_to(kind, tmp_path, capsys):
    if kind == "run":
        write_folder(tmp_path, run_records(pairs=1, values=8))
        arguments = ["--no-figures"]
    else:
        write_check(tmp_path, check_records(["steady"], values=8))
        arguments = []
    for asked in (False, True):
        with pytest.raises(SystemExit) as end:
            main(["report", str(tmp_path), *arguments, *(["--html"] if asked else [])])
        assert end.value.code == 0
        assert (PAGE_NAME in capsys.readouterr().out) is asked
        assert (tmp_path / PAGE_NAME).exists() is asked


def test_a_page_is_made_anew(tmp_path):
    folder = write_check(tmp_path, check_records(["steady"], values=8))
    (folder / PAGE_NAME).write_text("stale")
    assert write_check_page(folder, judged_folder(folder)).read_text(encoding="utf-8").startswith("<!doctype html>")
