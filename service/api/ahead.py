"""The bodies of uploads, read by the threads that store them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol


class Ahead:
    """What has arrived of a request's body and nobody has read: a thread takes it from the socket into its own memory.

    On its way through the event loop, h11 and uvicorn every megabyte is copied six times and changes threads twice.
    """

    def __init__(self, protocol: "H11Protocol", /) -> None:
        self._protocol = protocol
        self.taken = 0

    @contextmanager
    def open(self) -> Iterator[Callable[[memoryview], int]]:
        """What fills memory and says how much of it: 0 where nothing waits, and where h11 has to read what comes.

        Opened in the event loop. Until it is closed, nothing may be received in the usual way.
        """
        transport, connection = self._protocol.transport, self._protocol.conn
        # Names that h11 keeps to itself: where another version has them not, all is read in the usual way.
        reader: Any = getattr(connection, "_reader", None)
        if (
            type(reader).__name__ != "ContentLengthReader"
            or not hasattr(reader, "_remaining")
            or len(getattr(connection, "_receive_buffer", b"?"))
            or self._protocol.cycle.body
            or self._protocol.scheme != "http"
            or transport.is_closing()
        ):
            yield lambda _memory: 0
            return
        self._protocol.flow.pause_reading()

        def take(memory: memoryview) -> int:
            room = min(len(memory), reader._remaining - 1)  # the last byte is for h11, so that it sees the end
            filled = 0
            while filled < room:
                try:
                    came = waiting.recv_into(memory[filled:room])
                except OSError:  # nothing waits, or the connection is lost: the event loop finds out
                    break
                if came == 0:
                    break
                filled += came
                reader._remaining -= came
            self.taken += filled
            return filled

        # A descriptor of its own: should the transport close meanwhile, its number may become another connection's.
        with transport.get_extra_info("socket").dup() as waiting:
            yield take
