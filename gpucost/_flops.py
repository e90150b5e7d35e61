"""`gpucost.count_flops`: let torch count the FLOP of a block, and state them on a stage.

Like `_stage`, this is imported into other people's programs: it imports next to nothing, does nothing outside a recording, and no failure of its own
reaches them.
"""

from __future__ import annotations

from gpucost import _stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self


class count_flops:  # noqa: N801 (it reads like a statement, as `stage` does)
    """Count the floating-point operations of the torch operators in a block, and state them as the span's `flops`.

        with gpucost.stage("train", dtype="bf16") as span:
            with gpucost.count_flops(span, times=len(loader)):
                step(first_batch)          # counted once, stated for all steps
            for batch in loader: ...

    Counting (torch's FlopCounterMode: matrix products, convolutions, attention; forward and backward) slows the block down, so count one step and
    say in `times` how many like it there are. Without torch, and outside a recording, nothing is counted.

    Attributes:
        flops: what was counted, times `times`; None until the block ends, and where nothing was counted.
    """

    __slots__ = ("_counter", "_span", "_times", "flops")

    def __init__(self, span: _stage.stage | None = None, *, times: float = 1) -> None:
        self._span = span
        self._times = times
        self._counter: Any = None
        self.flops: float | None = None

    def __enter__(self) -> Self:
        if _stage._process is not None:  # noqa: SLF001 (whether the program is being recorded)
            try:
                from torch.utils.flop_counter import FlopCounterMode

                counter = FlopCounterMode(display=False)
                counter.__enter__()
                self._counter = counter
            except Exception:  # noqa: BLE001, S110 (no torch, or one that cannot count: the program must not notice)
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        counter, self._counter = self._counter, None
        if counter is None:
            return
        try:
            counter.__exit__(kind, error, traceback)
            if error is None:
                self.flops = counter.get_total_flops() * self._times
                if self._span is not None:
                    self._span.set(flops=self.flops)
        except Exception:  # noqa: BLE001, S110 (the program must not notice)
            pass
