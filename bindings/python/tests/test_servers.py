"""The servers of the tests: what they must not do to the tests beside them."""

import socket
import ssl
import threading

import pytest
import servers


@pytest.mark.parametrize("tls", [False, True])
def test_who_reads_on_behind_the_end_is_ended(tls, certificates):
    handlers = []

    def handle(connection, number):
        handlers.append(threading.current_thread())
        received = b""
        while not received.endswith(b"never"):
            received += connection.recv(100)

    context = certificates.context("good") if tls else None
    with servers.RawServer(handle, context) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            if tls:
                trusting = ssl.create_default_context(cafile=certificates.ca_file)
                with trusting.wrap_socket(plain, server_hostname="localhost") as peer:
                    peer.sendall(b"some")
            else:
                plain.sendall(b"some")
        assert servers.wait_until(lambda: handlers and not handlers[0].is_alive())


def test_a_socket_is_counted_once_though_the_kernel_shows_it_twice(tmp_path):
    """Which it does where others come while its list is read."""
    row = "   {}: 0100007F:C001 0100007F:{:04X} 01 0:0 0:0 0 0 0 77"
    shown = tmp_path / "tcp"
    rows = [row.format(number, port) for number, port in enumerate([443, 80, 443])]
    shown.write_text("\n".join(["sl ...", *rows]))
    sockets = servers.tcp_sockets(shown).values()
    assert sorted(map(servers.remote_port, sockets)) == [80, 443]
