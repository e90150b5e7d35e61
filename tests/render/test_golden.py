"""What is printed, to the letter: 80 columns, no colour.

To write the golden files anew after an intended change: `GPUCOST_UPDATE_GOLDEN=1 pytest tests/render/test_golden.py`, and read the diff.
"""

import io
import json
import os
from pathlib import Path

import jsonschema
import pytest

import gpucost
from gpucost import carbon
from gpucost.analyzers.model import NO_STAGE
from gpucost.recording import Problem
from gpucost.render import RENDERERS, renderer
from report_factory import Scenario, a_gpu, demo, report_of
from report_schema import json_schema

GOLDEN = Path(__file__).parent.parent / "golden"
SCHEMA = Path(gpucost.__file__).parent / "data" / "report.schema.json"
UPDATE = bool(os.environ.get("GPUCOST_UPDATE_GOLDEN"))

S = 1_000_000_000


def full():
    return report_of(demo(), intensity=carbon.lookup("FRA"))


def crashed():
    """Simulated, without a price, closed by nobody."""
    gpus = [a_gpu(0, name="NVIDIA Imaginary 9000", simulated=True)]
    uuid = gpus[0].uuid
    scenario = Scenario(
        gpus,
        {
            (uuid, "plan", "busy"): 20 * S,
            (uuid, "plan", "idle"): 10 * S,
            (uuid, NO_STAGE, "unknown"): 3 * S,
            (uuid, NO_STAGE, "empty"): 2 * S,
        },
        end_ns=35 * S,
        spans={"plan": [(2 * S, 32 * S)]},
        power_w=None,
        manifest={"status": "recording", "exit_code": None, "end_time_ns": None},
        recording={
            "end_basis": "last_sample",
            "problems": [Problem("not_closed", "the recorder did not close this run")],
        },
        unknown=[(uuid, 32 * S, 35 * S, "not_closed")],
    )
    return report_of(scenario)


CASES = {"full": full, "crashed": crashed, "no-gpu": lambda: report_of(Scenario(gpus=[]))}
SUFFIXES = {"terminal": "txt", "markdown": "md", "json": "json"}


def printed(report, output: str, **options) -> str:
    file = io.StringIO()
    renderer(output)(report, file, **options)
    return file.getvalue()


def compare(path: Path, text: str) -> None:
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("output", RENDERERS)
def test_the_output_is_the_golden_file(case, output):
    compare(GOLDEN / f"{case}.{SUFFIXES[output]}", printed(CASES[case](), output))


def test_the_published_schema_is_that_of_the_model():
    compare(SCHEMA, json.dumps(json_schema(), indent=2) + "\n")


@pytest.mark.parametrize("case", CASES)
def test_the_json_fits_the_published_schema(case):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(printed(CASES[case](), "json"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["schema_version"] == 1


@pytest.mark.parametrize(
    "damage", [("total", "money", "usd", 0.5), ("uses", 0, "use", "lazy"), ("run", "state", None, None)]
)
def test_the_schema_refuses_what_is_not_a_report(damage):
    document = json.loads(printed(full(), "json"))
    first, second, key, value = damage
    if key is None:
        del document[first][second]
    else:
        document[first][second][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_a_figure_that_is_not_known_is_null_in_json_and_never_zero():
    document = json.loads(printed(crashed(), "json"))
    assert document["total"]["money"] == {"usd": None, "text": "unknown"}
    assert document["total"]["energy_j"] == {"value": None, "text": "unknown"}
    assert document["run"]["exit_code"] is None
    assert {cell["usd"] for cell in document["ledger"]} == {None}


@pytest.mark.parametrize("output", ["terminal", "markdown"])
def test_a_simulated_run_says_so_in_the_first_line(output):
    assert "SIMULATED" in printed(crashed(), output).splitlines()[0]
    assert "SIMULATED" not in printed(full(), output)


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 119, 120, 160, 240])
@pytest.mark.parametrize("case", CASES)
def test_no_line_is_longer_than_the_terminal_is_wide(case, width):
    lines = printed(CASES[case](), "terminal", width=width).splitlines()
    assert max(map(len, lines)) <= width


def test_a_wide_terminal_shows_more():
    narrow, wide = (printed(full(), "terminal", width=width) for width in (80, 160))
    assert "max temp" not in narrow
    assert "max temp" in wide
    assert "kernels of the run were executing" in wide


def test_without_colour_there_is_no_escape_and_with_it_there_is_the_same_text():
    import re

    plain, colored = (printed(full(), "terminal", color=color) for color in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[32m" in colored
    stripped = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", colored).splitlines()]
    assert stripped == plain.splitlines()


class AsciiFile(io.StringIO):
    encoding = "ascii"


@pytest.mark.parametrize("output", RENDERERS)
def test_an_ascii_terminal_gets_ascii_in_the_same_layout(output):
    file = AsciiFile()
    renderer(output)(full(), file)
    assert file.getvalue().isascii()
    assert "nightly agent" in file.getvalue()
    if output == "terminal":
        assert [len(line) for line in file.getvalue().splitlines()] == [
            len(line) for line in printed(full(), output).splitlines()
        ]
