"""The program at the far end of a tunnel, as a process of this machine."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import probes.database

RELAY = Path(probes.database.__path__[0]) / "relay.py"


@pytest.fixture
def relay():
    """Start it: `relay(port, patience=5, idle=30)`."""
    started = []

    def start(port, patience=5, idle=30):
        command = [sys.executable, "-IS", str(RELAY), "127.0.0.1", str(port), str(patience), str(idle)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(5)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


@pytest.fixture
def echo():
    """A server that says again what it hears, in capitals; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_bytes_pass_both_ways_and_it_ends_with_its_input(relay, echo):
    process = relay(echo)
    process.stdin.write(b"hello\n")
    assert process.stdout.read(6) == b"HELLO\n"
    process.stdin.close()
    assert process.wait(5) == 0


def test_it_ends_when_the_far_end_does(relay):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = relay(listener.getsockname()[1])
        listener.accept()[0].close()
        assert process.wait(5) == 0


def test_a_refusal_is_told(relay):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = relay(port)
    assert process.wait(5) == 1
    assert process.stderr.read() == b"Connection refused"


def test_it_ends_by_itself_when_nothing_passes(relay, echo):
    process = relay(echo, idle=1)
    process.wait(10)
    assert process.returncode != 0
