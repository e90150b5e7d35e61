"""The ledger in money."""

from __future__ import annotations

import sys
from decimal import Decimal
from fractions import Fraction

import pytest

from analysis_builders import GPU, HOST, S, gpu_rows, recording, stage, tenths
from gpucost.analyzers import Analysis, analyze, cost
from gpucost.manifest import Gpu


def two_gpus() -> Analysis:
    """A stage of one second in a run of three, on a busy GPU and one without readings."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i) for i, uuid in enumerate((GPU, "GPU-1"))]
    return analyze(recording(3, gpu_rows(tenths(0, 3), 50.0), gpus=gpus, stage=[stage("a", 1, 2)]))


def test_a_cell_costs_its_time_times_the_rate() -> None:
    """One second of 7.20 dollars an hour is a fifth of a cent; half of it was busy."""
    costs = cost(two_gpus(), {GPU: Decimal("7.20"), "GPU-1": Decimal(3600)})
    cells = {(row.gpu_uuid, row.stage_path, row.use): row.cost_usd for row in costs.ledger.itertuples()}
    assert cells[(GPU, "a", "busy")] == Fraction(1, 1000)
    assert cells[("GPU-1", "a", "unknown")] == 1
    assert costs.total_usd == Fraction(6, 1000) + 3
    assert costs.unpriced == []


def test_a_rate_that_does_not_divide_is_still_exact() -> None:
    """A third of a second at 1 / 3.6e12 dollars a nanosecond has no end as a decimal."""
    run = recording(
        1.000000001,
        gpu_rows([0.333333333, 1.000000001], 33.3),
        hz=1,
        stage=[stage("a", 0, 0.1), stage("b", 0, 0.7), stage("c", 0, 1)],
    )
    costs = cost(analyze(run), {GPU: Decimal("1.1")})
    assert costs.total_usd == Fraction(11, 10) * 1_000_000_001 / (3600 * S)
    assert costs.total_usd == sum(costs.ledger["cost_usd"], Fraction(0))


def test_a_gpu_without_a_price_has_unknown_money_and_keeps_its_time() -> None:
    """None in its cells, its name in `unpriced`, and the rest adds up."""
    costs = cost(two_gpus(), {GPU: Decimal(3600), "GPU-1": None})
    unpriced = costs.ledger[costs.ledger["gpu_uuid"] == "GPU-1"]
    assert unpriced["cost_usd"].tolist() == [None] * len(unpriced)
    assert unpriced["duration_ns"].sum() == 3 * S
    assert costs.total_usd == 3
    assert costs.unpriced == ["GPU-1"]


def test_without_any_price_the_total_is_unknown_and_not_zero() -> None:
    """None, whether the rates are None or missing."""
    costs = cost(two_gpus(), {GPU: None})
    assert costs.total_usd is None
    assert costs.unpriced == [GPU, "GPU-1"]


def test_a_free_gpu_costs_nothing_and_has_a_price() -> None:
    """Zero is a price."""
    costs = cost(two_gpus(), {GPU: Decimal(0), "GPU-1": Decimal(0)})
    assert costs.total_usd == 0
    assert costs.unpriced == []


def test_a_priced_run_without_length_costs_nothing() -> None:
    """It has a price and no time."""
    costs = cost(analyze(recording(0)), {GPU: Decimal(4)})
    assert costs.total_usd == 0
    assert costs.ledger.empty
    assert "cost_usd" in costs.ledger


@pytest.mark.parametrize("rate", ["-0.01", "NaN", "Infinity"])
def test_what_is_not_a_price_is_refused(rate: str) -> None:
    """Negative, NaN, infinite."""
    with pytest.raises(ValueError, match="not a price"):
        cost(two_gpus(), {GPU: Decimal(rate)})


def test_the_package_is_cheap_to_import() -> None:
    """Its names do not bring pandas; the first call does."""
    import subprocess

    code = "import sys, gpucost.analyzers, gpucost.analyzers.model; sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
