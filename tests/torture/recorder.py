"""`gpucost record` that rotates its journal every so many seconds, so that a short run goes through all that a long one does.

python recorder.py SECONDS OPTIONS -- COMMAND
"""

import functools
import sys

from gpucost.cli import main
from gpucost.recorder import machinery

if __name__ == "__main__":
    age_ns = round(float(sys.argv[1]) * 1e9)
    machinery.Machinery = functools.partial(machinery.Machinery, segment_age_ns=age_ns)
    sys.exit(main(["record", *sys.argv[2:]]))
