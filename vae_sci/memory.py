"""How this process treats memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed() -> None:
    """Let this process keep what it frees; nothing but the time changes.

    By default glibc gives a large array's memory back when it is freed, and the system fills the
    next one's with zeros, page by page. Kept, it is there, and often still in the cache.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            glibc = ctypes.CDLL("libc.so.6")
            glibc.mallopt(M_MMAP_THRESHOLD, 2**30)
            glibc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
