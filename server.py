"""Run the app as one process: its socket, its signals, its end.

Sanic's own runners leave moments in which a SIGTERM is lost or kills, hold keep-alive connections to
the full shutdown timeout, and run a drain twice at a second signal (docs/decisions/0004). Here the
signals are caught before anything else, and any number of them is one.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable

import uvloop
from loguru import logger
from sanic.application.constants import ServerStage
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP
from sanic.server.async_server import AsyncioServer

from blueprints.context import ChatApp
from blueprints.protocol import StrictProtocol
from settings import BadSetting

# Connects wait here while the loop is busy; Sanic's 100 turns a thousand at once into second-long waits.
BACKLOG = 2048
# How long a thread that computes may keep the interpreter from the event loop, in seconds. Python's 5 ms are
# waited for at every turn of the loop: beside such a thread the p99 of an echo was 16 ms, and 2.5 with this.
SWITCH_INTERVAL = 0.001
# After the drain every answer is complete; this is for the last bytes on their way, in seconds.
LAST_BYTES = 2.0
# Of glibc's malloc.h: what `mallopt` sets, and what both are to begin with.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MALLOC_THRESHOLD = 128 * 1024


def hold_standard_descriptors() -> None:
    """Open 0, 1 and 2 where they are closed: a socket would get the number, and libuv aborts when it closes that."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections, for `::` of both families. Raises `BadSetting` if it can't."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as exc:
        raise BadSetting(f"HOST: can't listen on {host}: it is no address") from exc
    try:
        if ":" not in host:
            return socket.create_server((host, port), backlog=BACKLOG)
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as exc:
        number = exc.errno or 0
        # Of getaddrinfo they are negative: it finds `*`, and finds no address to bind.
        named = "HOST" if number < 0 or number == errno.EADDRNOTAVAIL else "PORT"
        reason = "it is no address" if number < 0 else os.strerror(number)
        raise BadSetting(f"{named}: can't listen on {host}:{port}: {reason}") from exc


def stop_signals() -> frozenset[signal.Signals]:
    """The signals that ask for an end.

    A terminal that closes sends SIGHUP, and systemd after its SIGTERM if told so; `nohup` has it ignored.
    """
    stops = frozenset({signal.SIGTERM, signal.SIGINT})
    return stops if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else stops | {signal.SIGHUP}


def run(app: ChatApp, listening: socket.socket, *, on_ready: Callable[[int], None]) -> None:
    """Serve *app* at *listening* until one of `stop_signals`; *on_ready* is told the port.

    Raises what the app's own start raises.
    """
    _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    _keep_no_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, listening, on_ready))


async def _serve(app: ChatApp, listening: socket.socket, on_ready: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    server = await app.create_server(
        sock=listening,
        protocol=StrictProtocol,
        backlog=BACKLOG,
        return_asyncio_server=True,
        asyncio_server_kwargs={"start_serving": False},
    )
    assert server is not None  # noqa: S101 - what Sanic's signature leaves open
    host, port = listening.getsockname()[:2]
    # What Sanic's runners note of themselves: without it `app.loop` refuses to work, and every answer
    # has an empty `alt-svc`.
    app.state.server_info.append(
        ApplicationServerInfo(
            {"version": HTTP.VERSION_1, "host": host, "port": port}, ServerStage.SERVING
        )
    )
    await server.startup()
    try:
        await server.before_start()
        await server.start_serving()
        await server.after_start()
        _settle_garbage_collector()
        on_ready(port)
        await stop.wait()
        logger.info("Stopping")
        # Still accepting: newcomers are told 503, with Retry-After, while streams finish.
        await server.before_stop()
        await _disconnect(server)
    finally:
        await server.after_stop()


async def _disconnect(server: AsyncioServer) -> None:
    if server.server is not None:
        server.server.close()
    for connection in tuple(server.connections):
        connection.close_if_idle()
    if handlers := [connection._task for connection in server.connections if connection._task]:
        await asyncio.wait(handlers, timeout=LAST_BYTES)
    for connection in tuple(server.connections):
        connection.abort()


def _settle_garbage_collector() -> None:
    # What exists now lives as long as the process: no collection needs to look at it again, and
    # thousands of streams opening at once should not set off full ones.
    gc.collect()
    gc.freeze()
    # 2,000: to collect 20,000 new objects, as some 200 turns leave them, held up the loop for 8 to 17 ms, and to
    # collect 2,000 for 1 ms.
    # 10: full collections are needed all the same, since answers that were cut and queries leave cycles. With 50 the
    # process grew by 36 MiB in 70,000 requests of `python -m bench soak`.
    gc.set_threshold(2_000, 200, 10)


def _keep_no_freed_memory() -> None:
    """Let glibc give back at once what a thread has freed.

    Left alone, it raises its thresholds to the largest block it has seen freed, and each thread's arena
    keeps twice that (https://man7.org/linux/man-pages/man3/mallopt.3.html). SQLite's connections, each a
    thread, held 4 MiB of nothing each, and more the more a single user had said.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MALLOC_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, MALLOC_THRESHOLD)


def _raise_descriptor_limit() -> None:
    """Let the process have as many sockets as it may: a relaying stream takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
