"""The worker process beside the API: replaced when it dies, gone when the API is."""

import os
import subprocess
import sys
import threading

from service.cli.output import err

STOP_SECONDS = 20.0
LOOK_SECONDS = 0.5
PAUSE_SECONDS = 2.0  # between one that died and the next


class WorkerProcess:
    def __init__(self) -> None:
        # The worker watches one end; the kernel closes the other with this process, however it ends.
        self._theirs, self._ours = os.pipe()
        self._stopping = threading.Event()
        self._child = self._start()
        self._keeper = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        self._stopping.set()
        self._keeper.join()
        self._child.terminate()
        try:
            self._child.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C reaches the API alone, which then stops the worker in order.
        return subprocess.Popen(
            [sys.executable, "-m", "service.worker", str(self._theirs)], pass_fds=[self._theirs], start_new_session=True
        )

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            status = self._child.poll()
            if status is not None:
                err.print(f"The worker ended with status {status}; another one is started.")
                if not self._stopping.wait(PAUSE_SECONDS):
                    self._child = self._start()
