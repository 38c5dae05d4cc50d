"""How malloc treats the memory that a process frees.

A training step frees its gradients and allocates them again in the next step, 2.4 GB at the paper's size. By default
glibc returns such large blocks to the operating system, and every step pays for page faults. `keep_freed_memory` turns
this off for the process; `return_freed_memory` returns what is free now.
"""

import ctypes
import gc
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER, NONE = -1, 0


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next allocation; return whether it will.

    Large blocks then come from the heap and not from mmap, and the heap never shrinks by itself. The results of a
    computation do not change. Without glibc (macOS, Windows, musl), nothing happens. Applies to the main thread:
    glibc serves large blocks of other threads by mmap in any case.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(M_MMAP_MAX, NONE) and mallopt(M_TRIM_THRESHOLD, NEVER))


def return_freed_memory() -> None:
    """Return freed memory to the operating system, where malloc is that of glibc.

    A process that runs many trainings would otherwise keep several times the memory that it needs: free blocks between
    blocks in use.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
