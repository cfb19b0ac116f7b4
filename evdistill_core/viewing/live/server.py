"""The web server of a live view, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import WSMsgType, web

from evdistill_core.foundation.worker import Worker
from evdistill_core.viewing.live.address import Access, ViewAddress, ViewError
from evdistill_core.viewing.live.viewers import Viewer, answer

MAX_VIEWERS = 8
PORTS_TRIED = 10
_START_S = 10.0
_END_S = 1.0
_HEARTBEAT_S = 20.0
_MAX_REQUEST = 1 << 14

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: "
    "blob:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True)
class ViewerCount:
    """What one page was sent.

    Attributes:
        name: address of the viewer.
        sent: pictures.
        dropped: pictures that it was too slow for.
    """

    name: str
    sent: int
    dropped: int


class ViewServer:
    """Serves the page and its WebSocket.

    Args:
        address: where.
        hello: returns the texts that a new page gets, by kind.
        command: does what a page asks for and returns the answer; called in a thread of its own.

    Raises:
        ViewError: the address cannot be served.
    """

    def __init__(
        self,
        address: ViewAddress,
        *,
        hello: Callable[[], Mapping[str, str]],
        command: Callable[[Mapping[str, object]], str],
    ) -> None:
        self._hello = hello
        self._command = command
        self._socket = _listen(address)
        port = self._socket.getsockname()[1]
        self.address = ViewAddress(address.host, port, address.is_chosen)
        self.access = Access.to(self.address)
        self._loop: asyncio.AbstractEventLoop
        self._ending: asyncio.Event
        self._viewers: dict[Viewer, web.WebSocketResponse] = {}
        self._gone: list[ViewerCount] = []
        self._ready = threading.Event()
        self._failure = ""
        self.is_watched = self.wants_image = False
        self._worker = Worker("view server", lambda: asyncio.run(self._main()), self._fail)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        shown = self.address
        if shown.host in ("0.0.0.0", "::"):
            shown = ViewAddress(socket.gethostname(), shown.port)
        return f"http://{shown}/" + (f"?token={self.access.token}" if self.access.token else "")

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._viewers)

    def counts(self) -> list[ViewerCount]:
        """Return what every page was sent, those that are gone first."""
        return self._gone + [_count(viewer) for viewer in list(self._viewers)]

    def start(self) -> None:
        """Start serving.

        Raises:
            ViewError: it does not start.
        """
        self._worker.start()
        if not self._ready.wait(_START_S) or self._failure:
            raise ViewError(self._failure or f"no page at {self.address} within {_START_S:g} s")

    def close(self) -> None:
        """Tell the pages that it is over, and stop serving; again does nothing."""
        if self._worker.is_alive and self._ready.is_set() and not self._failure:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._ending.set)
        self._worker.join(5 * _END_S)
        self._socket.close()

    def send(self, picture: bytes) -> None:
        """Offer a picture to every page that looks; returns at once, from any thread."""
        self._to_all(lambda viewer: viewer.offer(picture))

    def tell(self, kind: str, text: str) -> None:
        """Send a state to every page; returns at once, from any thread."""
        self._to_all(lambda viewer: viewer.tell(kind, text))

    def _to_all(self, work: Callable[[Viewer], None]) -> None:
        def do() -> None:
            for viewer in self._viewers:
                work(viewer)

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody looks any more
            self._loop.call_soon_threadsafe(do)

    def _fail(self, report: str, error: Exception) -> None:
        del error
        self._failure = report
        self.is_watched = False
        self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        app = web.Application(client_max_size=_MAX_REQUEST)
        app.router.add_get("/", self._page)
        app.router.add_get("/live", self._talk)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_END_S)
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        self._ready.set()
        await self._ending.wait()
        closing = [pipe.close(code=1001) for pipe in self._viewers.values()]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _END_S)
        await runner.cleanup()

    def _refused(self, request: web.Request) -> web.Response | None:
        why = self.access.refusal(
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
            token=request.query.get("token", ""),
        )
        return web.Response(status=403, text=f"refused: {why}\n", headers=_HEADERS) if why else None

    async def _page(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        nonce = secrets.token_urlsafe(16)
        text = page().replace("NONCE", nonce)
        headers = _HEADERS | {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        if len(self._viewers) >= MAX_VIEWERS:
            return web.Response(status=503, text=f"{MAX_VIEWERS} pages are open already\n")
        pipe = web.WebSocketResponse(
            timeout=_END_S, heartbeat=_HEARTBEAT_S, compress=False, max_msg_size=_MAX_REQUEST
        )
        await pipe.prepare(request)
        viewer = Viewer(request.remote or "unknown")
        for kind, text in self._hello().items():
            viewer.tell(kind, text)
        self._viewers[viewer] = pipe
        self._look_around()
        sending = asyncio.create_task(_send_to(pipe, viewer))
        try:
            async for message in pipe:
                if message.type is WSMsgType.TEXT:
                    await self._hear(viewer, message.data)
        finally:
            sending.cancel()
            del self._viewers[viewer]
            self._gone.append(_count(viewer))
            self._look_around()
        return pipe

    async def _hear(self, viewer: Viewer, text: str) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            viewer.reply(answer(False, "a request is a JSON object"))
        elif "drawn" in said:
            viewer.drawn()
        elif "looks" in said:
            viewer.set_looks(bool(said["looks"]))
            self._look_around()
        elif "image" in said:
            viewer.wants_image = bool(said["image"])
            self._look_around()
        else:
            viewer.reply(await self._loop.run_in_executor(None, self._command, said))

    def _look_around(self) -> None:
        self.is_watched = any(viewer.looks for viewer in self._viewers)
        self.wants_image = any(v.looks and v.wants_image for v in self._viewers)


def page() -> str:
    """Return the page, with NONCE where the nonce of its policy belongs."""
    return files("evdistill_core.viewing.live").joinpath("page.html").read_text(encoding="utf-8")


def _count(viewer: Viewer) -> ViewerCount:
    return ViewerCount(viewer.name, viewer.sent, viewer.dropped)


async def _send_to(pipe: web.WebSocketResponse, viewer: Viewer) -> None:
    with contextlib.suppress(ConnectionError):  # it has gone: the reading side ends too
        while True:
            content = await viewer.next()
            if isinstance(content, str):
                await pipe.send_str(content)
            else:
                await pipe.send_bytes(content)


def _listen(address: ViewAddress) -> socket.socket:
    """Return a listening socket; a port that nobody chose may be one of the next ones.

    Raises:
        ViewError: there is none.
    """
    last = address.port if address.is_chosen or not address.port else address.port + PORTS_TRIED - 1
    for port in range(address.port, last + 1):
        try:
            return _bound(address.host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port < last:
                continue
            raise ViewError(_why_not(address, error)) from error
    raise AssertionError("the range has at least one port")


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen()
    except BaseException:
        found.close()
        raise
    found.setblocking(False)
    return found


def _why_not(address: ViewAddress, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {address.port} is taken: choose another one, such as --view :{address.port + 1}"
        )
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{address.host} is no address of this machine: take 127.0.0.1, or 0.0.0.0 for other "
            "machines (the page then asks for a token)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {address.port} is not allowed here: choose one above 1023"
    return f"no page at {address}: {error.strerror or error}"
