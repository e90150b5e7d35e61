"""Names in a run directory that lead nowhere."""

import pytest

from gpucost.errors import DamagedRunError
from gpucost.store.reader import load
from store.making import write_rounds


def test_a_segment_that_is_a_link_to_nothing_is_named_at_once(run, monkeypatch):
    write_rounds(run, 2)
    waits = []
    monkeypatch.setattr("gpucost.store.tables.time.sleep", waits.append)
    path = next(run.glob("host=*/journal/gpu.*.1.jsonl"))
    path.unlink()
    path.symlink_to(run / "nothing")
    with pytest.raises(DamagedRunError, match=r"gpu\.abcdefgh\.1\.jsonl is a link to a file that is not there"):
        load(str(run))
    assert len(waits) == 1, "nobody is at work here, so there is nothing to wait for"
