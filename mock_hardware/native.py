"""A call that does not come back: what a vendor's library does when its firmware has stopped."""

from __future__ import annotations

import ctypes
import sys
import time


def hang(seconds: float) -> None:
    """Stay inside one native call. No signal handler written in Python runs before it returns, so a Ctrl-C waits.

    The second lock of a mutex that is already held: unlike a sleep, a signal does not end it. On Windows the sleep of
    the kernel, which a Ctrl-C does not end either.
    """
    if sys.platform == "win32":
        ctypes.windll.kernel32.Sleep(int(seconds * 1000))
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "pthread_mutex_timedlock"):  # macOS
        libc.sleep(int(seconds))
        return

    class Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    mutex = (ctypes.c_char * 128)()  # all zero: PTHREAD_MUTEX_INITIALIZER
    until_s = time.time() + seconds
    deadline = Timespec(int(until_s), int(until_s % 1 * 1e9))
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_timedlock(mutex, ctypes.byref(deadline))
