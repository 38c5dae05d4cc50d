"""Records traffic between hospitals and a coordinator: terminates TLS with its certificate, and stores requests."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from flwr.proto.message_pb2 import PushObjectRequest

from tests.machine import until

PIECE = 1 << 16


class Wire(threading.Thread):
    """Forwards all bytes in both directions."""

    def __init__(self, to: int, certificate: Path, trust: Path) -> None:
        super().__init__(daemon=True)
        self.port, self._to, self._sent = 0, to, list[bytearray]()
        self._outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._outside.load_cert_chain(certificate)
        self._inside = ssl.create_default_context(cafile=str(trust))
        self._loop, self._over = asyncio.new_event_loop(), asyncio.Event()
        self.start()
        until(lambda: self.port, "a listener on the wire")

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)

    def requests(self) -> Iterator[tuple[str, bytes]]:
        """Path and body of each call of a hospital, as the coordinator's proxy reads them."""
        for sent in list(self._sent):
            rest = bytes(sent)
            while rest:
                head, _, rest = rest.partition(b"\r\n\r\n")
                first, *fields = head.decode("latin-1").split("\r\n")
                named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
                assert "transfer-encoding" not in named, "bodies of a known length alone are read here"
                length = int(named.get("content-length", 0))
                yield first.split(" ")[1], rest[:length]
                rest = rest[length:]

    def objects(self) -> list[tuple[str, bytes]]:
        """Kind and content of every object that hospitals have sent: messages, their texts, pieces of arrays."""
        found = []
        for path, body in self.requests():
            if path.endswith("/push-object"):
                head, _, content = PushObjectRequest.FromString(body).object_content.partition(b"\x00")
                found.append((head.split(b" ")[0].decode(), content))
        return found

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._outside)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            await self._over.wait()

    async def _pass_on(self, hospital: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self._sent.append(kept)
        reader, writer = await asyncio.open_connection("localhost", self._to, ssl=self._inside)
        await asyncio.gather(_copy(hospital, writer, kept), _copy(reader, back, bytearray()))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(OSError):  # a killed hospital's connection
        while piece := await reader.read(PIECE):
            kept += piece
            writer.write(piece)
            await writer.drain()
    writer.close()
