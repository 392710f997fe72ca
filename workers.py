"""Several workers: child processes that accept from one socket, started, replaced and stopped together.

For machines where one core is not enough; settings then demand Redis and Postgres, by which the
workers share everything. The parent serves nothing itself, so it has nothing to lose.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn, TypeAlias

from server import stop_signals

# Told its number from 1, the socket, and what to call once it serves; returns when it is over.
Work: TypeAlias = Callable[[int, socket.socket, Callable[[], None]], None]

# Seconds until a worker that died before it served is started again: what ails it may pass.
_PAUSE: Final = 1.0


def run(count: int, listening: socket.socket, work: Work) -> int:
    """Keep *count* workers at *work* until one of `stop_signals`; the exit status.

    A worker that dies is replaced. If one gives up before any has ever served, the next would too:
    then all stop, and the status is 1. If the parent is killed, they stop as well. Call it before
    there are threads or a loop: it forks.
    """
    return _Workers(count, listening, work).run()


class _Workers:
    def __init__(self, count: int, listening: socket.socket, work: Work) -> None:
        self._count = count
        self._listening = listening
        self._work = work
        self._signals = stop_signals() | {signal.SIGCHLD}
        self._numbers: dict[int, int] = {}  # by process id
        self._pipes: dict[int, int] = {}  # by process id: where a worker says that it serves
        self._waiting: dict[int, float] = {}  # by number: when it is to be started again
        self._serving: set[int] = set()  # process ids
        self._any_served = False
        self._status = 0
        self._stopping = False
        # Nobody writes there: it ends for the workers when this process does.
        self._parent_ends, self._parent_lives = os.pipe()

    def run(self) -> int:
        # Blocked and waited for, so that none arrives at a wrong moment.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        for number in range(1, self._count + 1):
            self._start(number)
        while self._numbers or self._waiting:
            received = self._next_signal()
            if received == signal.SIGCHLD:
                self._reap()
            elif received is not None:
                self._stop()
            self._start_waiting()
        return self._status

    def _next_signal(self) -> int | None:
        if not self._waiting:
            return signal.sigwait(self._signals)
        patience = min(self._waiting.values()) - time.monotonic()
        received = signal.sigtimedwait(self._signals, max(0.0, patience))
        return None if received is None else received.si_signo

    def _start_waiting(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._waiting.items() if due <= now]:
            del self._waiting[number]
            self._start(number)

    def _start(self, number: int) -> None:
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            os.close(self._parent_lives)
            self._be_worker(number, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._numbers[process] = number
        self._pipes[process] = reading

    def _be_worker(self, number: int, pipe: int) -> NoReturn:
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            threading.Thread(target=_stop_with, args=(self._parent_ends,), daemon=True).start()
            self._work(number, self._listening, lambda: _say_it_serves(pipe))
            status = 0
        except SystemExit as exc:
            print(exc, file=sys.stderr)
        except BaseException:  # the process ends here, whatever it was
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Nothing of the parent's is this process's to clean up.
            os._exit(status)

    def _reap(self) -> None:
        # One SIGCHLD may stand for several.
        while self._numbers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            self._hear()
            number = self._numbers.pop(process)
            os.close(self._pipes.pop(process))
            pause = 0.0 if process in self._serving else _PAUSE
            self._serving.discard(process)
            if self._stopping:
                # A signal kills a worker that does not catch it yet: that is no failure.
                self._status = self._status or int(status not in (0, *stop_signals()))
            elif self._any_served or os.WIFSIGNALED(status):
                print(f"Worker {number} ended, replacing it", file=sys.stderr, flush=True)
                self._waiting[number] = time.monotonic() + pause
            else:
                self._status = 1
                self._stop()

    def _hear(self) -> None:
        """Note which workers have said that they serve."""
        for process, pipe in self._pipes.items():
            with suppress(BlockingIOError):
                if os.read(pipe, 1):
                    self._serving.add(process)
                    self._any_served = True

    def _stop(self) -> None:
        self._stopping = True
        self._waiting.clear()
        for process in self._numbers:
            os.kill(process, signal.SIGTERM)


def _say_it_serves(pipe: int) -> None:
    os.write(pipe, b"!")


def _stop_with(parent_ends: int) -> None:
    """Stop this process when its parent has ended: its port would be taken, and nobody could stop it."""
    os.read(parent_ends, 1)
    os.kill(os.getpid(), signal.SIGTERM)
