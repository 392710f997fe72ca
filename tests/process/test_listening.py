"""The socket that connections come from."""

import socket

import pytest
from ports import free_port

import server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_cuts_whoever_acknowledges_nothing(host):
    """A phone that went out of reach sends no FIN; nothing else ends its connection between writes."""
    with server.listen(host, free_port(), silence=1.5) as listening:
        with socket.create_connection((host, listening.getsockname()[1])):
            accepted, _ = listening.accept()
        with accepted:
            patience = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    assert patience == 1500
