"""The one place that knows the versions: of the program, and of what it writes."""

__version__ = "0.1.0"

SCHEMA_VERSION = 1
"""Of the recordings; see `gpucost.schema`."""
