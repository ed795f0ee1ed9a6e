"""A comparison as JUnit XML: a suite for each workload, a case for each cell and runtime.

A case fails where the head is slower, and has an error where it gives an exit status other than 0 by anything else.
So some case is not ok exactly where the exit status is not 0.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from harness.errors import ExitStatus
from harness.regression.judging import Verdict
from harness.regression.phrases import closing_lines, decided_by, heading, notes_of, one_line, visible
from harness.wording import Labels, compact_json

if TYPE_CHECKING:
    from junitparser import TestCase, TestSuite

    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement, Margins

__all__ = ["junit_xml"]


def junit_xml(judged: Judged) -> bytes:
    """The document, in UTF-8."""
    from junitparser import JUnitXml
    from junitparser.junitparser import SystemOut

    labels = Labels(judged.judgements)
    document = JUnitXml(heading(judged))
    suites: dict[str, TestSuite] = {}
    for one in judged.judgements:
        if one.workload not in suites:
            suites[one.workload] = _suite(visible(one.workload), judged)
        suites[one.workload].add_testcase(_case(one, labels, judged.margins))
    if judged.exit_status is not ExitStatus.OK and all(one.status is ExitStatus.OK for one in judged.judgements):
        suites[""] = _suite("comparison", judged)
        suites[""].add_testcase(_uncompared(judged))
    said = "\n".join([decided_by(judged), *closing_lines(judged)])
    for suite in suites.values():
        suite.append(SystemOut(said))  # type: ignore[no-untyped-call]
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    stream = BytesIO()
    document.write(stream)
    return stream.getvalue()


def _suite(name: str, judged: Judged) -> TestSuite:
    from junitparser import TestSuite

    suite = TestSuite(name)
    suite.add_property("base", visible(judged.base_name))
    suite.add_property("head", visible(judged.head_name))
    suite.add_property("interleaved", str(judged.interleaved).lower())
    for stamp in judged.stamps:
        suite.add_property("stamp", visible(stamp))
    return suite


def _case(one: Judgement, labels: Labels, margins: Margins) -> TestCase:
    from junitparser import Error, Failure, TestCase

    sentence = one_line(one, labels, margins)
    runtime = f"{one.runtime} {compact_json(one.options)}" if one.options else one.runtime
    case = TestCase(
        name=visible(f"{labels.cell(one)}, {labels.runtime(one)}"),
        classname=visible(f"{one.workload}.{runtime}"),
        time=sum(pair.head_s for pair in one.pairs),
    )
    if one.status is not ExitStatus.OK:
        kind = Failure if one.verdict is Verdict.SLOWER else Error
        result = kind(sentence, one.verdict.value)
        result.text = "\n".join([sentence, *notes_of(one, labels)])
        case.result = [result]
    case.system_out = "\n".join([f"verdict: {one.verdict.value}", sentence])
    return case


def _uncompared(judged: Judged) -> TestCase:
    from junitparser import Error, TestCase

    case = TestCase(name="something was compared", classname="comparison", time=0.0)
    case.result = [Error(decided_by(judged), "nothing measured")]
    return case
