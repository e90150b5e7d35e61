"""How this process asks the system for memory."""

import sys

_M_ARENA_MAX = -8  # glibc's mallopt(3)


def share_one_arena() -> bool:
    """Let all threads of this process allocate from one arena (Linux with glibc); returns whether that was done.

    By default every thread gets an arena of its own, whose pages go back to the system with every large array and are asked for again with
    the next: for an analysis of millions of rows in two threads that is twice the page faults, and memory held twice.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (OSError, AttributeError):
        return False
