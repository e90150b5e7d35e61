"""Comparisons, checks and comments as printed: golden files, limits, and names that would like to be markup.

To write the golden files anew after an intended change: `GPUCOST_UPDATE_GOLDEN=1 pytest tests/render/test_ci_formats.py`, and read the diff.
"""

import io
import json
import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import gpucost
from compare_factory import a_report, checked, compared, every_gate, renamed, slower
from gpucost.render.documents import CHECK_FORMATS, COMPARISON_FORMATS, writer
from gpucost.render.junit import junit
from gpucost.render.openmetrics import openmetrics
from gpucost.render.pull_request import comment
from gpucost.report.compare import compare
from gpucost.report.model import Report
from report_factory import S, Scenario, a_gpu, demo, report_of
from report_schema import check_schema, comparison_schema

GOLDEN = Path(__file__).parent.parent / "golden"
DATA = Path(gpucost.__file__).parent / "data"
UPDATE = bool(os.environ.get("GPUCOST_UPDATE_GOLDEN"))
SUFFIXES = {"terminal": "txt", "markdown": "md", "json": "json", "junit": "xml"}
MARKER = "<!-- gpucost:nightly -->"

COMPARISONS = {
    "compared": compared,
    "renamed": renamed,
    "one-new-run": lambda: compared(6, 1),
    "two-runs": lambda: compared(1, 1),
}
CHECKS = {"every-gate": every_gate, "all-passed": lambda: checked(slower(5), None, cost="1", cost_increase="50%")}


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def written(formats, output: str, document, **options) -> str:
    file = io.StringIO()
    writer(formats, output)(document, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("output", COMPARISON_FORMATS)
@pytest.mark.parametrize("case", ["compared", "renamed"])
def test_a_comparison_is_printed_as_the_golden_file(case, output):
    golden(f"{case}.{SUFFIXES[output]}", written(COMPARISON_FORMATS, output, COMPARISONS[case]()))


@pytest.mark.parametrize("output", CHECK_FORMATS)
def test_a_check_is_printed_as_the_golden_file(output):
    golden(f"every-gate.{SUFFIXES[output]}", written(CHECK_FORMATS, output, every_gate()))


def test_a_comment_is_the_golden_file():
    golden(
        "comment.md",
        comment(a_report(30, train_s=90.0), None, every_gate(), marker=MARKER, link="https://example.org/a/1"),
    )


def test_the_metrics_are_the_golden_file():
    golden("metrics.txt", openmetrics(a_report(30, train_s=90.0), every_gate()))


@pytest.mark.parametrize(("name", "make"), [("comparison", comparison_schema), ("check", check_schema)])
def test_the_published_schemas_are_those_of_the_models(name, make):
    text = json.dumps(make(), indent=2) + "\n"
    path = DATA / f"{name}.schema.json"
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("case", [*COMPARISONS, *CHECKS])
def test_the_json_fits_its_published_schema(case):
    kind, formats = ("comparison", COMPARISON_FORMATS) if case in COMPARISONS else ("check", CHECK_FORMATS)
    schema = json.loads((DATA / f"{kind}.schema.json").read_text(encoding="utf-8"))
    document = json.loads(written(formats, "json", {**COMPARISONS, **CHECKS}[case]()))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["schema_version"] == 1


@pytest.mark.parametrize("width", [40, 60, 80, 100, 119, 120, 200])
@pytest.mark.parametrize("case", [*COMPARISONS, *CHECKS])
def test_no_line_is_longer_than_the_terminal_is_wide(case, width):
    formats = COMPARISON_FORMATS if case in COMPARISONS else CHECK_FORMATS
    text = written(formats, "terminal", {**COMPARISONS, **CHECKS}[case](), width=width)
    assert max(map(len, text.splitlines())) <= width


# --- JUnit and OpenMetrics ---------------------------------------------------------------------------------------------------------


def test_junit_has_a_test_case_a_gate_and_counts_what_failed():
    check = every_gate()
    root = ET.fromstring(junit(check))
    cases = list(root.iter("testcase"))
    assert len(cases) == len(check.gates)
    assert root.get("failures") == str(len(list(root.iter("failure")))) == str(len(check.failing))
    assert {failure.get("type") for failure in root.iter("failure")} == {"failed", "missing"}


def test_junit_skips_what_could_not_be_decided():
    root = ET.fromstring(junit(checked(slower(1), [], cost_increase="10%")))
    assert root.get("skipped") == "1"
    assert "no run in the baseline" in root.find(".//skipped").get("message")


def test_metrics_of_unknown_figures_have_no_line():
    text = openmetrics(a_report(gpus=[a_gpu(0, name="Imaginary")], power_w=None))
    assert "usd" not in text
    assert "joules" not in text
    assert "gpucost_run_gpu_seconds 85.0\n" in text


SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? -?[\d.e+-]+$')
HOSTILE = [
    "@everyone",
    "a|b|c",
    "</details><img src=x onerror=alert(1)>",
    "[x](https://evil.example) ![y](https://evil.example/z.png)",
    "``` code",
    "`` ` ``",
    "\n\n# Heading\n- item",
    "https://evil.example www.evil.example",
    "#1 GH-1 org/repo#2",
    "/close",
    "<!-- gpucost:other -->",
    "\u202egnp.exe\u202c\x1b[31m",
    "&lt;b&gt; &amp;",
    "*bold* _it_ ~~no~~ $x$",
    '"quoted" \\ back',
    "]]>",
    "😀" * 50,
]


def hostile_report(name: str, number: int = 0) -> Report:
    gpu = a_gpu(0, name=name)
    cube = {(gpu.uuid, name or "x", "busy"): (10 + number) * S, (gpu.uuid, "other", "idle"): 5 * S}
    manifest = {"name": name, "command": [name, name], "labels": {name: name}, "driver": {"driver": name}}
    spans = {name or "x": [(0, S)], "other": [(S, 2 * S)]}
    events = [("gpu_lost", "nvml", gpu.uuid, name, S)]
    return report_of(Scenario([gpu], cube, end_ns=20 * S, spans=spans, manifest=manifest, events=events), price="2")


def everything(name: str, marker: str = "", **limits) -> str:
    """A comment with a name in every place."""
    head, base = hostile_report(name, 5), [hostile_report(name, number) for number in range(5)]
    check = checked(
        [head],
        base,
        **{f"cost@{name if name.strip() else 'x'}": "0.001", "cost_increase": "1%", f"energy@{name}?": "1 Wh"},
    )
    return comment(head, None, check, marker=marker, link="https://example.org/report", **limits)


def assert_harmless(text: str) -> None:
    """What a forge would make of it has nothing in it but what gpucost wrote."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    opened, seen = 0, []
    for token in parser.parse(text):
        if token.type == "html_block":
            tags = re.findall(r"</?[a-z]+>|<!--.*?-->", token.content)
            assert re.sub(r"</?(details|summary|sub)>", "", token.content).count("<") == token.content.count("<!--")
            opened += tags.count("<details>") - tags.count("</details>")
            assert opened in (0, 1)
        for child in token.children or []:
            if child.type == "html_inline":
                assert child.content in ("<sub>", "</sub>")
            if child.type == "link_open":
                seen.append(child.attrs["href"])
            assert child.type != "image"
            if child.type == "text":
                assert not re.search(r"@\w|#\d|://|\bwww\.|\bGH-\d", child.content, flags=re.IGNORECASE), child.content
    assert opened == 0
    assert set(seen) <= {"https://example.org/report"}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for before, after in pairwise(rows):
        if after.startswith("| ---"):
            assert cells(before) == cells(after)
    assert not any(line.startswith("/") for line in text.splitlines())


def cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_can_mention_link_break_a_table_or_end_the_folded_part(name):
    assert_harmless(everything(name, MARKER))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_table_of_the_comparison(name):
    base, head = hostile_report(name), hostile_report("other " + name, 9)
    text = written(COMPARISON_FORMATS, "markdown", compare([base], [head]))
    assert_harmless(text)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert all(len({cells(row) for row in table.splitlines()}) == 1 for table in tables)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_junit_or_metrics(name):
    head = hostile_report(name, 5)
    check = checked([head], [], **{f"cost@{name or 'x'}": "0.001"})
    assert len(list(ET.fromstring(junit(check)).iter("testcase"))) == 1
    lines = openmetrics(head, check).splitlines()
    assert lines[-1] == "# EOF"
    assert all(SAMPLE.match(line) for line in lines if not line.startswith("#"))
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.text(max_size=60), st.integers(4_000, 12_000), st.integers(16_000, 40_000))
def test_a_comment_is_under_its_limits_and_harmless_whatever_the_names(name, max_chars, max_bytes):
    text = everything(name, MARKER, max_chars=max_chars, max_bytes=max_bytes)
    assert len(text) <= max_chars
    assert len(text.encode()) <= max_bytes
    assert text.startswith(MARKER + "\n")
    assert_harmless(text)


@cache
def large() -> tuple[Report, object]:
    gpus = [a_gpu(number) for number in range(24)]
    paths = [f"stage-{number:03d} {'x' * 60}" for number in range(120)]
    cube = {(gpus[number % 24].uuid, path, "busy"): S * (number + 1) for number, path in enumerate(paths)}
    report = report_of(Scenario(gpus, cube, end_ns=10**12, spans={path: [(0, S)] for path in paths}))
    return report, checked([report], [report], **{"cost@stage*": "0.0001", "cost": "0.01"})


def test_a_large_run_degrades_part_by_part_and_says_what_is_left_out():
    report, check = large()
    lengths = []
    for limit in (400_000, 20_000, 4_000):
        text = comment(report, None, check, marker=MARKER, max_chars=limit)
        assert len(text) <= limit
        assert text.startswith(MARKER)
        assert "121 of 121 gates failed" in text
        assert_harmless(text)
        lengths.append(len(text))
    assert lengths == sorted(lengths, reverse=True)
    assert "left out" in text
    assert "<summary>Gates</summary>" in comment(report, None, check, max_chars=40_000)


def test_bytes_are_counted_and_not_only_characters():
    report, check = large()
    text = comment(report, None, check, max_bytes=10_000)
    assert len(text.encode("utf-8")) <= 10_000


def test_too_small_a_limit_is_refused():
    with pytest.raises(ValueError, match="too few"):
        comment(report_of(demo()), max_chars=100)


@pytest.mark.parametrize(
    "link",
    ["javascript:alert(1)", "http://x.example", "https://x.example/a b", "https://x.example/)<b>", "https://x\n", ""],
)
def test_only_an_https_address_becomes_a_link(link):
    assert "](" not in comment(report_of(demo()), link=link)


def test_a_simulated_run_says_so_in_the_first_line_behind_the_marker():
    report = a_report(gpus=[a_gpu(0, simulated=True)])
    assert "SIMULATED" in comment(report, marker=MARKER).splitlines()[2]
    assert "SIMULATED" in comment(report).splitlines()[0]


def test_a_run_without_a_gpu_has_a_comment_too():
    assert "no GPU was held" in comment(report_of(Scenario(gpus=[])))
