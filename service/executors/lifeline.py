"""A process ends with the one that started it, however that one ended."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, /) -> None:
    """Has the kernel kill this process with the thread that started it, where it can; `parent` is that one's id.

    A thread of Python's that watches a pipe cannot act while another one holds the interpreter.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def watch_pipe(descriptor: int, ended: Callable[[], None], /) -> None:
    """Calls `ended` in a thread once nobody holds the pipe's other end any more."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        ended()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
