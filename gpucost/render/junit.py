"""A check as JUnit XML: a test case a gate, so that every CI system shows it beside the tests.

Written in the dialect that Jenkins, GitLab and GitHub's reporters share. Names come from recordings and from the configuration: characters that
XML cannot hold were replaced before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO
from xml.etree import ElementTree as ET

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from gpucost.report.comparison import CheckResult, GateResult


def render(check: CheckResult, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001 (XML has neither)
    """Write the check as one XML document, in ASCII with character references, whatever the file's encoding."""
    file.write(junit(check))


def junit(check: CheckResult) -> str:
    """The document. A gate that failed, or that misses a figure it needs, is a failure; one that could not be decided is skipped."""
    counts = {
        "tests": str(len(check.gates)),
        "failures": str(sum(gate.fails for gate in check.gates)),
        "errors": "0",
        "skipped": str(sum(_skipped(gate) for gate in check.gates)),
    }
    root = ET.Element("testsuites", {"name": "gpucost", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": "gpucost", **counts, "timestamp": check.run.started.rstrip("Z")})
    properties = ET.SubElement(suite, "properties")
    facts = [("run", check.run.run_id), ("gpus", check.run.gpus), ("repeats", str(check.repeats))]
    if check.run.simulated:
        facts.insert(0, ("simulated", "SIMULATED: these GPUs are not real, and neither are the figures"))
    for name, value in facts:
        ET.SubElement(properties, "property", {"name": name, "value": plain(value)})
    for gate in check.gates:
        suite.append(_case(gate))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii") + "\n"


def _case(gate: GateResult) -> ET.Element:
    stage = f".{plain(gate.stage)}" if gate.stage is not None else ""
    case = ET.Element("testcase", {"classname": f"gpucost{stage}", "name": plain(f"{gate.title} {gate.limit.text}")})
    message = plain(gate.message, 1000)
    if gate.fails:
        failure = ET.SubElement(case, "failure", {"message": message, "type": gate.status})
        failure.text = message
    elif _skipped(gate):
        ET.SubElement(case, "skipped", {"message": message})
    else:
        ET.SubElement(case, "system-out").text = message
    return case


def _skipped(gate: GateResult) -> bool:
    return not gate.fails and gate.status in ("missing", "undecided")
