"""What each of the driver's calls costs: a histogram of durations by call, kept for the run and published with it."""

from typing import Any

BUCKETS = 34
"""Powers of two of a nanosecond: up to 8 s."""


class Histogram:
    """Durations of one call, in buckets whose bounds double: the error of a quantile is a factor of two at most."""

    __slots__ = ("counts", "longest_ns", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.longest_ns = 0
        self.total_ns = 0

    def add(self, took_ns: int) -> None:
        """Count one call."""
        self.counts[min(took_ns.bit_length(), BUCKETS - 1)] += 1
        self.total_ns += took_ns
        self.longest_ns = max(self.longest_ns, took_ns)

    def quantile_ns(self, share: float) -> int:
        """The upper bound of the bucket in which this share of the calls has come back; 0 without calls."""
        wanted, seen = share * sum(self.counts), 0
        for bits, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min((1 << bits) - 1, self.longest_ns)
        return 0

    def facts(self) -> dict[str, Any]:
        """For the manifest: calls, sum, median and 99th percentile (at most), longest, and the buckets by their bounds; microseconds."""
        return {
            "calls": sum(self.counts),
            "total_us": round(self.total_ns / 1000, 1),
            "p50_us": round(self.quantile_ns(0.5) / 1000, 1),
            "p99_us": round(self.quantile_ns(0.99) / 1000, 1),
            "max_us": round(self.longest_ns / 1000, 1),
            "buckets_us": {f"{(1 << bits) / 1000:g}": count for bits, count in enumerate(self.counts) if count},
        }


class Costs:
    """The histograms of a session, by the name of the call."""

    def __init__(self) -> None:
        self._by_call: dict[str, Histogram] = {}

    def of(self, name: str) -> Histogram:
        """The histogram of a call."""
        found = self._by_call.get(name)
        if found is None:
            found = self._by_call[name] = Histogram()
        return found

    def facts(self) -> dict[str, dict[str, Any]]:
        """For the manifest: every call that was made, the dearest in all first."""
        made = sorted(self._by_call.items(), key=lambda item: -item[1].total_ns)
        return {name: histogram.facts() for name, histogram in made if histogram.total_ns}
