"""Between the host and the device that computes, which may be the host itself."""

import time

import torch


class Clock:
    """Seconds that a device spends on what it is given between the making of the clock and `stop`."""

    def __init__(self, device: torch.device) -> None:
        self._started = time.perf_counter()
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        if device.type == "cuda":
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._events = began, ended
            began.record()

    def stop(self) -> None:
        if self._events is not None:
            self._events[1].record()

    def wait(self) -> float:
        """Until the device is done."""
        if self._events is None:
            return time.perf_counter() - self._started
        began, ended = self._events
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1000


class Courier:
    """Carries pixels to a GPU on a stream of its own, while the GPU still computes what it was given before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def bring(self, pixels: torch.Tensor, /) -> torch.Tensor:
        """The pixels where the device's current stream may use them."""
        if self._stream is None:
            return pixels
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            there = pixels.to(self._device, non_blocking=True)
        there.record_stream(computing)
        computing.wait_stream(self._stream)
        return there


def home(rows: torch.Tensor, /) -> torch.Tensor:
    """The rows in the host's memory, perhaps not yet there: a clock stopped afterwards knows."""
    if rows.device.type == "cpu":
        return rows
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    return host
