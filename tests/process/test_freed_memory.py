"""What threads have freed is the system's again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.process.process_service import ROOT

# Each thread frees a large block first, from which glibc would learn to keep the smaller ones, as SQLite's do.
CHILD = """
import ctypes, os, sys, threading
import psutil
import server

if sys.argv[1] == "as the service":
    server._keep_no_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
barrier = threading.Barrier(9)

def work():
    for size in (8 << 20, 4 << 20):
        block = libc.malloc(size)
        libc.memset(block, 1, size)
        libc.free(block)
    barrier.wait()
    barrier.wait()

before = psutil.Process().memory_info().rss
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
print((psutil.Process().memory_info().rss - before) >> 20)
barrier.wait()
"""


def _kept(how: str) -> int:
    """MiB that eight threads still hold when each has freed 12."""
    child = [sys.executable, "-c", CHILD, how]
    return int(subprocess.run(child, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_threads_freed_is_not_kept() -> None:
    """The threads of SQLite's connections kept 100 MiB of nothing for one user's 240,000 messages."""
    assert _kept("as the service") < 8
