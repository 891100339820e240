"""Three stages with bounded queues: read, decode and resize; forward; write.

On a CPU one crew of threads, one a core, does the first two stages, so that they never ask for more cores than there
are: a thread decodes only while no images wait for their forward pass. Beside a GPU the crew decodes, and a thread of
its own keeps the device busy.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from service.compute.causes import is_fatal
from service.compute.device import intra_op_threads
from service.compute.streams import Limits, Rowed, Stream
from service.compute.transfer import Clock, Courier, home
from service.embeddings.protocol import Rows
from zoo.catalog import PreprocessConfig
from zoo.errors import BadImage, ExtractionFailed
from zoo.preprocess import decode, prepare

MAX_PIXELS = 178_956_970  # what Pillow itself refuses; the dataset's own, smaller cap was held when it was taken in
LOOK_SECONDS = 0.1
WRITES_WAITING = 1

ReadBlob = Callable[[bytes], bytes]
Write = Callable[["Stream", list[bytes], Rows, Rows | None], None]
_MODEL_ERRORS = (ExtractionFailed, RuntimeError, ValueError)


class Stopped(Exception):
    """The pipeline was told to stop, or another of its threads failed."""


@dataclass(slots=True, eq=False)
class _Chunk:
    """Images that are decoded together, once for every model."""

    hashes: list[bytes]
    pixels: dict[str, torch.Tensor]  # by signature
    streams: list[Stream]
    undecoded: int
    unforwarded: int
    on_device: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Launched:
    """Results on their way from the device."""

    chunk: _Chunk
    stream: Stream
    hashes: list[bytes]
    parts: list[tuple[torch.Tensor, torch.Tensor | None]]
    clock: Clock


class Pipeline:
    def __init__(
        self,
        hashes: Sequence[bytes],
        streams: Sequence[Stream],
        /,
        *,
        read_blob: ReadBlob,
        write: Write,
        device: torch.device,
        limits: Limits,
    ) -> None:
        self.streams = streams
        self.done = 0
        self.seconds: dict[str, float] = {"decode": 0.0, "forward": 0.0, "write": 0.0}
        self._read_blob, self._write, self._device, self._limits = read_blob, write, device, limits
        configs: dict[str, PreprocessConfig] = {s.signature: s.extractor.card.preprocess for s in streams}
        self._configs = configs
        image_bytes = sum(3 * c.input_size[1] * c.input_size[2] for c in configs.values())
        lanes = limits.threads if device.type == "cpu" else 1
        largest = max((s.batch for s in streams), default=1)
        room = limits.pixel_bytes // 2 // max(1, image_bytes)
        # Few images are dealt to all lanes; little room is shared by at least two chunks.
        self._chunk_images = max(1, min(largest, -(-len(hashes) // lanes), room // (lanes + 2)))
        self._chunks_at_once = max(2, room // self._chunk_images)
        self._todo = iter(range(0, len(hashes), self._chunk_images))
        self._hashes = hashes
        self._next_image: Iterator[tuple[_Chunk, int]] = iter(())
        self._courier = Courier(device)
        self._change = threading.Condition()
        self._at_once = 0
        self._decoding_bytes = 0
        self._ready: deque[tuple[_Chunk, Stream]] = deque()
        self._to_write: deque[tuple[Stream, Rowed]] = deque()
        self._buffered = 0  # bytes of rows, written ones not counted
        self._read_all = self._forwarded_all = self._ended = False
        self._stop = False
        self._error: BaseException | None = None

    def run(self, *, look: Callable[[], None]) -> None:
        """Blocks until everything is written. `look` is called ten times a second; what it raises ends the work."""
        crew = [
            threading.Thread(target=self._guard, args=(self._work,), name=f"embed-{number}")
            for number in range(self._limits.threads)
        ]
        if self._device.type != "cpu":
            crew.append(threading.Thread(target=self._guard, args=(self._feed_device,), name="embed-device"))
        crew.append(threading.Thread(target=self._guard, args=(self._write_segments,), name="embed-write"))
        with intra_op_threads(1):
            for thread in crew:
                thread.start()
            try:
                while not self._over():
                    look()
            finally:
                with self._changed():
                    self._stop = True
                for thread in crew:
                    thread.join()
        if self._error is not None:
            raise self._error

    def stop_if_told(self) -> None:
        if self._stop:
            raise Stopped

    def _over(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._ended or self._error is not None, timeout=LOOK_SECONDS)
            return self._ended or self._error is not None

    @contextmanager
    def _changed(self) -> Iterator[None]:
        with self._change:
            yield
            self._change.notify_all()

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Stopped:
            pass
        except BaseException as error:  # handed to the thread that waits
            with self._changed():
                self._error = self._error or error
                self._stop = True

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        with self._change:
            self.seconds[stage] += time.perf_counter() - started

    # -- the crew ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        computes = self._device.type == "cpu"
        while True:
            with self._change:
                while True:
                    self.stop_if_told()
                    unit = self._take_unit() if computes else None
                    image = self._take_image() if unit is None else None
                    if unit is not None or image is not None:
                        break
                    if self._forwarded_all if computes else self._read_all:
                        return
                    self._change.wait()
            if unit is not None:
                self._collect(self._launch(*unit))
            elif image is not None:
                self._decode(*image)

    def _take_image(self) -> tuple[_Chunk, int] | None:
        image = next(self._next_image, None)
        if image is None and not self._read_all and self._at_once < self._chunks_at_once:
            chunk = self._open_chunk()
            if chunk is not None:
                self._next_image = iter([(chunk, i) for i in range(len(chunk.hashes))])
                image = next(self._next_image)
        return image

    def _open_chunk(self) -> _Chunk | None:
        for start in self._todo:
            hashes = self._hashes[start : start + self._chunk_images]
            streams = [s for s in self.streams if s.failed is None and not s.lacks.isdisjoint(hashes)]
            if not streams:
                continue
            pixels = {
                signature: torch.empty(
                    (len(hashes), *self._configs[signature].input_size),
                    dtype=torch.uint8,
                    memory_format=torch.channels_last,
                    pin_memory=self._device.type == "cuda",
                )
                for signature in {s.signature for s in streams}
            }
            self._at_once += 1
            return _Chunk(list(hashes), pixels, streams, undecoded=len(hashes), unforwarded=len(streams))
        self._read_all = True
        self._look_whether_forwarded()
        self._change.notify_all()
        return None

    def _decode(self, chunk: _Chunk, number: int) -> None:
        taken = 0

        def reserve(count: int) -> None:
            nonlocal taken
            with self._change:
                # One image always has room, or a large one would wait for ever.
                while self._decoding_bytes and self._decoding_bytes + count > self._limits.pixel_bytes // 2:
                    self.stop_if_told()
                    self._change.wait()
                self._decoding_bytes += count
                taken = count

        try:
            with self._timed("decode"):
                value = chunk.hashes[number]
                try:
                    image = decode(self._read_blob(value), max_pixels=MAX_PIXELS, reserve=reserve)
                except BadImage as error:
                    raise BadImage(f"Image {value.hex()} was whole when it was taken in: {error}") from error
                for signature, pixels in chunk.pixels.items():
                    pixels[number].copy_(prepare(image, self._configs[signature]))
        finally:
            with self._changed():
                self._decoding_bytes -= taken
                chunk.undecoded -= 1
                if not chunk.undecoded:
                    self._ready.extend((chunk, stream) for stream in chunk.streams)

    # -- forward -------------------------------------------------------------------------------------------------------

    def _take_unit(self) -> tuple[_Chunk, Stream] | None:
        if len(self._to_write) > WRITES_WAITING:
            return None  # the disk is behind: rows wait as pixels
        return self._ready.popleft() if self._ready else None

    def _feed_device(self) -> None:
        """One unit ahead: the device computes the next while the last one's rows are taken."""
        behind: _Launched | None = None
        torch.cuda.set_device(self._device)
        while True:
            with self._change:
                while (unit := self._take_unit()) is None and behind is None and not self._forwarded_all:
                    self.stop_if_told()
                    self._change.wait()
                self.stop_if_told()
            ahead = self._launch(*unit) if unit is not None else None
            if behind is not None:
                self._collect(behind)
            elif ahead is None:
                return
            behind = ahead

    def _launch(self, chunk: _Chunk, stream: Stream) -> _Launched:
        launched = _Launched(chunk, stream, [], [], Clock(self._device))
        if stream.failed is not None:
            return launched
        mine = [i for i, value in enumerate(chunk.hashes) if value in stream.lacks]
        try:
            with self._timed("forward"):
                pixels = self._pixels(chunk, stream)
                if len(mine) < len(chunk.hashes):
                    pixels = pixels[torch.tensor(mine, device=pixels.device)]
                launched.parts = self._forward(stream, pixels)
                launched.hashes = [chunk.hashes[i] for i in mine]
                launched.clock.stop()
        except _MODEL_ERRORS as error:
            self.stop_if_told()
            if is_fatal(error):
                raise
            stream.fail(error)
        return launched

    def _pixels(self, chunk: _Chunk, stream: Stream) -> torch.Tensor:
        if stream.signature not in chunk.on_device:
            chunk.on_device[stream.signature] = self._courier.bring(chunk.pixels[stream.signature])
        return chunk.on_device[stream.signature]

    def _forward(self, stream: Stream, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Batches of the stream's size; on a full device it is halved, for good."""
        parts: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        at = 0
        while at < len(pixels):
            self.stop_if_told()
            try:
                features, probs = stream.extractor.launch(pixels[at : at + stream.batch])
                parts.append((home(features), None if probs is None else home(probs)))
                at += stream.batch
            except torch.OutOfMemoryError:
                if stream.batch == 1:
                    raise
                stream.batch //= 2
                torch.cuda.empty_cache()
        return parts

    def _collect(self, launched: _Launched) -> None:
        """Waits for the rows, looks at them and keeps them until they make a segment."""
        chunk, stream = launched.chunk, launched.stream
        rows: list[tuple[Rows, Rows | None]] = []
        seconds = 0.0
        try:
            if stream.failed is None:  # else its clock was never stopped
                with self._timed("forward"):
                    seconds = launched.clock.wait()
                    for features, probs in launched.parts:
                        stream.extractor.require_finite(features, probs)
                        rows.append((features.numpy(), None if probs is None else probs.numpy()))
        except _MODEL_ERRORS as error:
            self.stop_if_told()
            if is_fatal(error):
                raise
            stream.fail(error)
        with self._changed():
            if stream.failed is None:
                self._keep(stream, launched.hashes, rows)
                stream.seconds += seconds
            else:
                self._buffered -= stream.take().bytes
            chunk.unforwarded -= 1
            if not chunk.unforwarded:
                self._at_once -= 1
                self._look_whether_forwarded()

    def _keep(self, stream: Stream, hashes: list[bytes], rows: list[tuple[Rows, Rows | None]]) -> None:
        self._buffered += stream.add(hashes, rows)
        self.done += len(hashes)
        if len(stream.kept.hashes) >= self._limits.segment_rows:
            self._hand_over(stream)
        elif self._buffered > self._limits.feature_bytes:
            self._hand_over(max(self.streams, key=lambda s: s.kept.bytes))

    def _look_whether_forwarded(self) -> None:
        if self._read_all and not self._at_once:
            self._forwarded_all = True
            for stream in self.streams:
                if stream.failed is None:
                    self._hand_over(stream)

    # -- write ---------------------------------------------------------------------------------------------------------

    def _hand_over(self, stream: Stream) -> None:
        if stream.kept.hashes:
            self._to_write.append((stream, stream.take()))

    def _write_segments(self) -> None:
        while True:
            with self._changed():
                while not self._to_write and not self._forwarded_all:
                    self.stop_if_told()
                    self._change.wait()
                self.stop_if_told()
                if not self._to_write:
                    self._ended = True
                    return
                stream, kept = self._to_write.popleft()
            with self._timed("write"):
                probs = np.concatenate(kept.probs) if kept.probs else None
                self._write(stream, kept.hashes, np.concatenate(kept.features), probs)
            with self._changed():
                self._buffered -= kept.bytes
