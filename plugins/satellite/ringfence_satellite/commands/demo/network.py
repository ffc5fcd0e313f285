"""A TCP relay that can be cut: the network between a satellite and its host, for the demo to break."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 64 * 1024


class Relay:
    """Passes connections on `127.0.0.1:port` to `target` until it is cut; `mend` opens the port again.

    The port stays its own until `close`: one that is free for a moment the kernel gives to whoever asks for any.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        # Bound, and never listening: who connects while the network is cut is refused. Both sockets allow each
        # other by SO_REUSEADDR, since at most one listens (socket(7)).
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = int(self._holder.getsockname()[1])
        self.mend()

    def mend(self) -> None:
        """Take connections (again)."""
        listener = socket.create_server(("127.0.0.1", self.port))
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and take no new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            doomed, self._open = self._open, set()
        for broken in (listener, *doomed):
            if broken is not None:
                # A blocked accept or recv ends by the shutdown; the close alone would leave it waiting.
                with contextlib.suppress(OSError):
                    broken.shutdown(socket.SHUT_RDWR)
                broken.close()

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._holder.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                live = self._listener is listener
                if live:
                    self._open |= {near, far}
            if not live:
                near.close()
                far.close()
                return
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._lock:
            self._open -= {source, sink}
