"""Limit the memory of processes that run many trainings."""

import ctypes
import gc


def trim() -> None:
    """Hand back to the system what freed objects leave with malloc, where that is glibc's; else do nothing.

    It keeps what lies between blocks still in use: after some runs several times what a process needs.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return
