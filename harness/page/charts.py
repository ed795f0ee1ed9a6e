"""The figures of a page: Vega-Lite by Altair, as specifications for the browser and as SVG drawn beforehand.

Colours are variables of the page's style sheet, so a figure follows light, dark and print without being drawn anew,
and all text has the colour of the page's text. The log axes have their ends in the parameters `lo` and `hi`, which the
page's buttons and its wheel change: Vega's own zoom would take the wheel away from scrolling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.page.model import LOOKS, counts_of
from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.page.model import PageClaim, PageRow, PageScaling

__all__ = ["as_svg", "claims_chart", "detail_charts", "forest", "scaling_chart", "vega_bundle"]

Spec = dict[str, Any]

_PRINTED_WIDTH = 760
"""Pixels of the plot itself where no script can measure the window."""
_ROW_PIXELS = 22
_PANELS_FROM = 2.5
"""Rows of a cell, on average: from here on each cell gets a panel with its name once."""

_SEEN_AT_ONCE = 20

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
_CONFIG: Spec = {
    "background": "transparent",
    "font": _FONT,
    "padding": 4,
    "view": {"stroke": None},
    # No value is invalid here; filters for them would make each layer a source of its own.
    "mark": {"invalid": None},
    "aria": False,
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "domainColor": "var(--edge)",
        "tickColor": "var(--edge)",
        "gridColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 320,
    },
    "header": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelFontWeight": "bold",
        "labelLimit": 700,
        "titleColor": "var(--ink)",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "labelFontSize": 12,
        "symbolSize": 80,
        "labelLimit": 220,
    },
    "text": {"color": "var(--ink)"},
    "title": {"color": "var(--ink)", "subtitleColor": "var(--ink)"},
}
_BASE, _HEAD = "var(--base)", "var(--head)"
_TIMES = "format(datum.value, datum.value < 1000 ? '.3~g' : ',.3~r') + '\u00d7'"
_SECONDS = "format(datum.value, '.3~s') + 's'"


def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without a network, of the version that Altair writes for."""
    import altair as alt
    import vl_convert

    version = "v" + ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    known = vl_convert.get_vegalite_versions()
    fitting = version.lstrip("v") if version.lstrip("v") in known else known[-1]
    return vl_convert.javascript_bundle(None, fitting)  # type: ignore[arg-type]  # None is its default


def as_svg(spec: Spec) -> str:
    """`spec` drawn, to stand in the page before a script draws it again, or where none does."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def forest(rows: Sequence[PageRow], *, band: float) -> Spec | None:
    """Ratios with their intervals on a log axis, the rule at 1 and the margin around it; None without a ratio."""
    import altair as alt

    shown = [row for row in rows if row.ratio is not None]
    if not shown:
        return None
    ends = [end for row in shown if row.ratio for end in (row.ratio.low, row.ratio.high, row.ratio.point)]
    lo, hi = _span([*ends, 1 / (1 + band) ** 2, (1 + band) ** 2])
    cells: dict[str, None] = dict.fromkeys(_cell(row) for row in shown)
    in_panels = len(shown) / len(cells) >= _PANELS_FROM
    number_of = {cell: number for number, cell in enumerate(cells)}
    values = [
        {
            "n": row.number,
            "cell": number_of[_cell(row)],
            "name": row.name,
            "verdict": row.verdict,
            "ratio": _short(row.ratio.point),
            "low": _short(row.ratio.low),
            "high": _short(row.ratio.high),
            "pairs": row.ratio.n,
        }
        for row in shown
        if row.ratio is not None
    ]
    names = {str(row.number): row.runtime if in_panels else row.name for row in shown}
    titles = {str(number_of[_cell(row)]): f"{row.workload}: {row.cell}" for row in shown}
    verdicts = list(counts_of(shown))
    x = alt.X(
        "low:Q",
        scale=alt.Scale(type="log", domainMin=alt.ExprRef("lo"), domainMax=alt.ExprRef("hi"), nice=False),
        axis=alt.Axis(
            title="ratio of speeds, log scale",
            labelExpr=_TIMES,
            tickCount=7,
            grid=True,
            orient="top" if len(shown) > _SEEN_AT_ONCE else "bottom",  # the end of a long figure is out of sight
            offset=20 if in_panels else 0,  # the name of the first panel stands there
        ),
    )
    y = alt.Y(
        "n:O",
        sort=None,
        title=None,
        axis=alt.Axis(labelExpr="names[datum.value]", ticks=False, domain=False, grid=False, labelPadding=8),
    )
    tones = [f"var(--{LOOKS[verdict].tone})" for verdict in verdicts]
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=verdicts, range=tones), legend=None)
    tooltip = [
        alt.Tooltip("name:N"),
        alt.Tooltip("verdict:N"),
        alt.Tooltip("ratio:Q", format=".3~g"),
        alt.Tooltip("low:Q", format=".3~g"),
        alt.Tooltip("high:Q", format=".3~g"),
        alt.Tooltip("pairs:Q"),
    ]
    base = alt.Chart().encode(y=y)
    area = (
        alt.Chart()
        .mark_rect(color="var(--band)", clip=True)
        .encode(x=alt.XDatum(1 / (1 + band)), x2=alt.X2Datum(1 + band))
    )
    rule = alt.Chart().mark_rule(color="var(--edge)", strokeWidth=1.5, clip=True).encode(x=alt.XDatum(1))
    interval = base.mark_rule(strokeWidth=2.5, strokeCap="round", clip=True).encode(
        x=x, x2="high:Q", color=colour, tooltip=tooltip
    )
    dot = base.mark_point(filled=True, size=90, opacity=1, clip=True, cursor="pointer").encode(
        x="ratio:Q",
        color=colour,
        shape=alt.Shape(
            "verdict:N", scale=alt.Scale(domain=verdicts, range=[LOOKS[v].shape for v in verdicts]), legend=None
        ),
        tooltip=tooltip,
    )
    layers = alt.layer(area, rule, interval, dot).properties(width=_PRINTED_WIDTH, height=alt.Step(_ROW_PIXELS))
    chart: Any = layers
    if in_panels:
        chart = (
            layers.properties(data=alt.NamedData(name="values"))
            .facet(
                row=alt.Row(
                    "cell:O",
                    sort=None,
                    title=None,
                    header=alt.Header(labelExpr="titles[datum.value]", labelOrient="top", labelAnchor="start"),
                ),
                spacing=2,
            )
            .resolve_scale(y="independent")
        )
    return _finished(chart, values, {"lo": lo, "hi": hi, "names": names, "titles": titles})


def claims_chart(claims: Sequence[PageClaim]) -> Spec | None:
    """Published ratios beside ours; None where none was measured."""
    import altair as alt

    shown = [claim for claim in claims if claim.ours is not None]
    if not shown:
        return None
    values, ends, names = [], [1.0], {}
    for number, claim in enumerate(shown):
        assert claim.ours is not None
        names[str(number)] = f"{claim.name}, over {claim.reference}"
        ends += [claim.published, claim.ours.low, claim.ours.high]
        values.append(
            {
                "n": number,
                "name": names[str(number)],
                "published": _short(claim.published),
                "ours": _short(claim.ours.point),
                "low": _short(claim.ours.low),
                "high": _short(claim.ours.high),
                "verdict": claim.verdict,
            }
        )
    lo, hi = _span(ends)
    x = alt.X(
        "low:Q",
        scale=alt.Scale(type="log", domainMin=alt.ExprRef("lo"), domainMax=alt.ExprRef("hi"), nice=False),
        axis=alt.Axis(
            title="times as fast as Ray, log scale",
            labelExpr=_TIMES,
            tickCount=7,
            grid=True,
            orient="top",
        ),
    )
    y = alt.Y("n:O", sort=None, title=None, axis=alt.Axis(labelExpr="names[datum.value]", ticks=False, domain=False))
    tooltip = ["name:N", "published:Q", "ours:Q", "low:Q", "high:Q", "verdict:N"]
    base = alt.Chart().encode(y=y, tooltip=tooltip)
    layers = alt.layer(
        alt.Chart().mark_rule(color="var(--edge)", strokeWidth=1.5, clip=True).encode(x=alt.XDatum(1)),
        base.mark_rule(color=_HEAD, strokeWidth=2.5, strokeCap="round", clip=True).encode(x=x, x2="high:Q"),
        base.mark_point(shape="diamond", color=_BASE, strokeWidth=2, size=80, opacity=1, clip=True).encode(
            x="published:Q"
        ),
        base.mark_point(filled=True, color=_HEAD, size=80, opacity=1, clip=True).encode(x="ours:Q"),
    ).properties(width=_PRINTED_WIDTH, height=alt.Step(_ROW_PIXELS))
    return _finished(layers, values, {"lo": lo, "hi": hi, "names": names})


def scaling_chart(scaling: PageScaling) -> Spec:
    """Throughput against workers, with the interval of each point."""
    import altair as alt

    values = [
        {
            "runtime": runtime,
            "workers": workers,
            "rate": _short(rate.point),
            "low": _short(rate.low),
            "high": _short(rate.high),
        }
        for runtime, workers, rate in scaling.points
    ]
    lo, hi = _span([end for _, _, rate in scaling.points for end in (rate.low, rate.high)])
    runtimes = list(dict.fromkeys(runtime for runtime, _, _ in scaling.points))
    colours = [f"var(--series-{number % 6})" for number in range(len(runtimes))]
    legend = alt.Legend(title=None, orient="top") if len(runtimes) > 1 else None
    colour = alt.Color("runtime:N", scale=alt.Scale(domain=runtimes, range=colours), legend=legend)
    x = alt.X(
        "workers:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=20),
        axis=alt.Axis(title="workers", values=sorted({w for _, w, _ in scaling.points}), format="d", grid=False),
    )
    y_scale = alt.Scale(type="log", domainMin=alt.ExprRef("lo"), domainMax=alt.ExprRef("hi"), nice=False)
    y_axis = alt.Axis(title=f"{scaling.unit}s a second (log scale)", format=".3~s", tickCount=5)
    base = alt.Chart().encode(x=x, color=colour, tooltip=["runtime:N", "workers:Q", "rate:Q", "low:Q", "high:Q"])
    layers = alt.layer(
        base.mark_rule(strokeWidth=2, clip=True).encode(y=alt.Y("low:Q", scale=y_scale, axis=y_axis), y2="high:Q"),
        base.mark_line(strokeWidth=2, clip=True).encode(y="rate:Q"),
        base.mark_point(filled=True, size=80, opacity=1, clip=True).encode(
            y="rate:Q", shape=alt.Shape("runtime:N", legend=legend)
        ),
    ).properties(width=_PRINTED_WIDTH, height=260)
    return _finished(layers, values, {"lo": lo, "hi": hi})


def detail_charts() -> dict[str, Spec]:
    """Templates of the figures of a row, without data: the page's script puts those of the row in."""
    return {"pairs": _pairs(), "ratios": _ratios(), "distribution": _distribution(), "order": _order()}


def _side_legend() -> Any:
    import altair as alt

    names = "datum.value == 'base' ? baseName : headName"
    return alt.Legend(title=None, orient="top", labelExpr=names, symbolOpacity=1)


def _side_colour() -> Any:
    import altair as alt

    return alt.Color("side:N", scale=alt.Scale(domain=["base", "head"], range=[_BASE, _HEAD]), legend=_side_legend())


def _log(title: str, expression: str, **kwargs: Any) -> dict[str, Any]:
    import altair as alt

    return {
        "scale": alt.Scale(type="log", domainMin=alt.ExprRef("lo"), domainMax=alt.ExprRef("hi"), nice=False),
        "axis": alt.Axis(title=title, labelExpr=expression, tickCount=5, labelOverlap="greedy", **kwargs),
    }


def _pairs() -> Spec:
    """Paired dots: both speeds of each pair on a line."""
    import altair as alt

    y = alt.Y("seed:O", title="seed", axis=alt.Axis(grid=True))
    x = alt.X("rate:Q", **_log("units a second (log scale)", "format(datum.value, '.3~s')"))
    opacity = alt.condition("datum.counts", alt.value(1), alt.value(0.4))
    tooltip = [alt.Tooltip("seed:O"), alt.Tooltip("side:N"), alt.Tooltip("rate:Q", format=".4~s"), "counts:N"]
    base = alt.Chart().encode(y=y, opacity=opacity)
    layers = alt.layer(
        base.mark_line(color="var(--edge)", strokeWidth=1.5, clip=True).encode(x=x, detail="seed:O"),
        base.mark_point(filled=True, size=70, clip=True).encode(
            x=x,
            color=_side_colour(),
            shape=alt.Shape(
                "side:N", scale=alt.Scale(domain=["base", "head"], range=["circle", "diamond"]), legend=_side_legend()
            ),
            tooltip=tooltip,
        ),
    )
    return _finished(layers.properties(width=420, height=alt.Step(12)), [], _side_names())


def _ratios() -> Spec:
    """The ratio of each pair, with the estimate and its interval behind them."""
    import altair as alt

    x = alt.X("ratio:Q", **_log("ratio of each pair (log scale)", _TIMES))
    y = alt.Y("seed:O", title="seed", axis=alt.Axis(grid=True))
    layers = alt.layer(
        alt.Chart()
        .mark_rect(color="var(--band)", clip=True)
        .encode(x=alt.XDatum(alt.ExprRef("low"), type="quantitative"), x2=alt.X2Datum(alt.ExprRef("high"))),
        alt.Chart()
        .mark_rule(color=_HEAD, strokeWidth=2, clip=True)
        .encode(x=alt.XDatum(alt.ExprRef("point"), type="quantitative")),
        alt.Chart()
        .mark_rule(color="var(--edge)", strokeWidth=1.5, strokeDash=[4, 3], clip=True)
        .encode(x=alt.XDatum(1, type="quantitative")),
        alt.Chart()
        .mark_point(filled=True, size=60, color=_HEAD, clip=True)
        .encode(
            x=x,
            y=y,
            opacity=alt.condition("datum.counts", alt.value(1), alt.value(0.35)),
            tooltip=[alt.Tooltip("seed:O"), alt.Tooltip("ratio:Q", format=".4~g"), "counts:N"],
        ),
    )
    return _finished(
        layers.properties(width=420, height=alt.Step(12)), [], {"lo": 0.5, "hi": 2, "low": 1, "high": 1, "point": 1}
    )


def _distribution() -> Spec:
    """Of each invocation, which share of its rounds took at most so long."""
    import altair as alt

    chart = (
        alt.Chart()
        .mark_line(strokeWidth=1.2, opacity=0.65, clip=True, interpolate="linear")
        .encode(
            x=alt.X("s:Q", **_log("duration of a round (log scale)", _SECONDS)),
            y=alt.Y(
                "p:Q", title="share of rounds", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])
            ),
            color=_side_colour(),
            detail=["line:N"],
            order="p:Q",
            tooltip=["side:N", "line:N"],
        )
    )
    return _finished(chart.properties(width=420, height=230), [], _side_names())


def _order() -> Spec:
    """Rounds in the order in which they ran, invocation after invocation."""
    import altair as alt

    chart = (
        alt.Chart()
        .mark_line(strokeWidth=1.4, clip=True, point=False)
        .encode(
            x=alt.X(
                "x:Q",
                title="invocations, in the order in which they ran",
                axis=alt.Axis(format="d", grid=False, tickMinStep=1),
            ),
            y=alt.Y("s:Q", **_log("duration (log scale)", _SECONDS)),
            color=_side_colour(),
            detail=["line:N"],
            order="x:Q",
            tooltip=["side:N", "line:N"],
        )
    )
    return _finished(chart.properties(width=420, height=200), [], _side_names())


def _side_names() -> dict[str, Any]:
    return {"lo": 1, "hi": 10, "baseName": "base", "headName": "head"}


# ------------------------------------------------------------------------------------------ helpers


def _finished(chart: Any, values: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> Spec:
    """The chart as a specification with the page's style, its data and its parameters."""
    import altair as alt

    spec: Spec = chart.properties(data=alt.NamedData(name="values")).to_dict()
    spec["data"] = {"values": list(values)}
    spec["params"] = [*spec.get("params", []), *({"name": n, "value": v} for n, v in parameters.items())]
    spec["config"] = _CONFIG
    return spec


def _cell(row: PageRow) -> str:
    return compact_json([row.workload, row.parameters])


def _short(value: float) -> float:
    """Five digits: what a figure can show, at half the size."""
    return float(f"{value:.5g}")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a log axis that has room for `values`."""
    low, high = min(values), max(values)
    room = max(math.log(high / low) * 0.06, 0.01)
    return _short(low * math.exp(-room)), _short(high * math.exp(room))
