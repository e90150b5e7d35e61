"""Profiles made up for tests: no device has ever given these figures."""

from gpucost.bench.model import Device, Profile, Result, Window
from gpucost.bench.store import Sample


def result(name, unit, value, *, width=0.002, **fields):
    return Result(
        name,
        unit,
        ceiling=True,
        sustained=value,
        median=value,
        burst=value * 1.01,
        n=100,
        n_clean=100,
        window_s=0.05,
        ci95=[value * (1 - width), value * (1 + width)],
        **fields,
    )


def profile(
    *,
    uuid="GPU-1111",
    name="Made-up GPU",
    run_id="20260101-000000-aaaaaa",
    mode="full",
    driver="1.2.3",
    results=None,
    **fields,
):
    made = results
    if made is None:
        made = [
            result("gemm.bf16", "TFLOP/s", 700.0, dtype="bf16", shape=[8192, 8192, 8192]),
            result("mem.triad", "GB/s", 3000.0),
            result("launch.enqueue", "us", 4.0),
            result("power.idle_ctx", "W", 70.0),
        ]
    return Profile(
        run_id=run_id,
        started_utc=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T00:00:00Z",
        mode=mode,
        device=Device("cuda", uuid, name, sm_count=100, sm_clock_max_mhz=1980, power_limit_w=700.0),
        tool={"driver": driver, "torch": "2.13.0", "cuda": "13.0"},
        host={"name": "box"},
        contention="none",
        results=made,
        **fields,
    )


def samples(test_id, rates):
    """One sample a rate, 50 ms each."""
    step = 50_000_000
    return [Sample(test_id, i, Window(i * step, step, 10, rate), rate, 1980.0, None) for i, rate in enumerate(rates)]
