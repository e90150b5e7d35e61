"""A diagnosis as text or as JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from gpucost.render.safe import for_encoding, plain

FORMATS = ("terminal", "json")
_MARKS = {"ok": "ok     ", "missing": "MISSING", "note": "note   "}
_MOST = 200
_GPU = re.compile(r"GPU (?P<index>\d+) \((?P<name>.*)\)")


def render(found: Mapping[str, Any], out: TextIO, *, output: str = "terminal") -> None:
    """Print a diagnosis.

    Args:
        found: what `gpucost.collectors.diagnosis.diagnose` returns.
        out: where to.
        output: one of `FORMATS`.
    """
    if output == "json":
        out.write(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=True) + "\n")
        return
    out.writelines(for_encoding(line, getattr(out, "encoding", None)) + "\n" for line in _lines(found))


def _together(findings: Sequence[Mapping[str, str]]) -> dict[tuple[str, str, str], list[str]]:
    """What is said, and of whom: eight GPUs of which the same is true are one line."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        said.setdefault((one["state"], one["text"], one["advice"]), []).append(one["about"])
    return said


def _title(about: Sequence[str]) -> str:
    """`GPU 0, 1, 2 (NAME)` for several of one model."""
    found = [_GPU.fullmatch(one) for one in about]
    titles = [(match["index"], match["name"]) for match in found if match]
    if len(titles) < max(2, len(about)) or len({name for _, name in titles}) > 1:
        return "; ".join(about)
    return f"GPU {', '.join(index for index, _ in titles)} ({titles[0][1]})"


def _lines(found: Mapping[str, Any]) -> list[str]:
    system = found["system"]
    where = "in a container" if system["pid_namespace"] == "inner" else "on the host"
    lines = [plain(f"{system['platform']}, Python {system['python']}, {where}", _MOST), ""]
    for (state, text, advice), about in _together(found["findings"]).items():
        lines.append(f"{_MARKS[state]}  {plain(_title(about), 120)}: {plain(text, _MOST)}")
        if advice:
            lines.append(f"         -> {plain(advice, _MOST)}")
    if found["gpus"]:
        lines += ["", "sensors are renewed every"]
    for gpu in found["gpus"]:
        periods = ", ".join(f"{name} {ms:g} ms" for name, ms in gpu["update_periods_ms"].items()) or "not seen"
        lines.append(f"  GPU {gpu['index']} {plain(str(gpu['name']), 60)} {plain(str(gpu['uuid']), 60)}: {periods}")
    if found["calls"]:
        lines += ["", f"{'driver call, us':<46}{'calls':>7}{'median <=':>10}{'99 % <=':>10}{'longest':>10}"]
        for name, cost in found["calls"].items():
            row = f"{cost['calls']:>7}{cost['p50_us']:>10.1f}{cost['p99_us']:>10.1f}{cost['max_us']:>10.1f}"
            lines.append(f"{plain(name, 44):<46}{row}")
    verdict = "a recording would be complete" if found["complete"] else "a recording would lack what is marked MISSING"
    return [*lines, "", verdict]
