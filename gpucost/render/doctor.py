"""A diagnosis as text or as JSON."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

from gpucost.render.safe import for_encoding, plain

FORMATS = ("terminal", "json")
_MARKS = {"ok": "ok     ", "missing": "MISSING", "note": "note   "}
_MOST = 200


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


def _lines(found: Mapping[str, Any]) -> list[str]:
    system = found["system"]
    where = "in a container" if system["pid_namespace"] == "inner" else "on the host"
    lines = [plain(f"{system['platform']}, Python {system['python']}, {where}", _MOST), ""]
    for one in found["findings"]:
        lines.append(f"{_MARKS[one['state']]}  {plain(one['about'], 60)}: {plain(one['text'], _MOST)}")
        if one["advice"]:
            lines.append(f"         -> {plain(one['advice'], _MOST)}")
    for gpu in found["gpus"]:
        periods = ", ".join(f"{name} {ms:g} ms" for name, ms in gpu["update_periods_ms"].items()) or "not seen"
        lines.append(f"\nGPU {gpu['index']} {plain(str(gpu['name']), 60)} {plain(str(gpu['uuid']), 60)}")
        lines.append(f"  sensors are renewed every: {periods}")
    if found["calls"]:
        lines += ["", f"{'driver call':<46}{'calls':>7}{'median':>10}{'99 %':>10}{'longest':>10}  us"]
        for name, cost in found["calls"].items():
            row = f"{cost['calls']:>7}{cost['p50_us']:>10.1f}{cost['p99_us']:>10.1f}{cost['max_us']:>10.1f}"
            lines.append(f"{plain(name, 44):<46}{row}")
    verdict = "a recording would be complete" if found["complete"] else "a recording would lack what is marked MISSING"
    return [*lines, "", verdict]
