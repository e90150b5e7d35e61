"""`gpucost record` that rotates its journal every so many seconds, so that a short run goes through all that a long one does.

python recorder.py SECONDS[:ROTATIONS] OPTIONS -- COMMAND      with ROTATIONS, it seals only after so many of them
"""

import functools
import sys

from gpucost.cli import main
from gpucost.recorder import machinery

if __name__ == "__main__":
    seconds, _, rotations = sys.argv[1].partition(":")
    machinery.Machinery = functools.partial(
        machinery.Machinery, segment_age_ns=round(float(seconds) * 1e9), seal_after=int(rotations or 1)
    )
    sys.exit(main(["record", *sys.argv[2:]]))
