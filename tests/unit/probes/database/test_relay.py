"""The program at the far end of a tunnel, as a process of this machine."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from probes.database import relay as program
from probes.database.relay import DATA, END, FRAME, OPEN

PROGRAM = Path(program.__file__)


class Relay:
    """The process, spoken to in frames."""

    def __init__(self, patience, idle):
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(PROGRAM), str(patience), str(idle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def open(self, number, port):
        self.tell(number, OPEN, b"%d localhost" % port)

    def tell(self, number, kind, data=b""):
        self.process.stdin.write(FRAME.pack(number, kind, len(data)) + data)

    def hear(self):
        number, kind, size = FRAME.unpack(self.process.stdout.read(FRAME.size))
        return number, kind, self.process.stdout.read(size)


@pytest.fixture
def relay():
    """Start it: `relay(patience=5, idle=30)`."""
    started = []

    def start(patience=5, idle=30):
        started.append(Relay(patience, idle))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(5)
        for stream in (each.process.stdin, each.process.stdout, each.process.stderr):
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
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_what_is_said_before_the_connection_came_about_is_not_lost(relay, echo):
    running = relay()
    running.open(1, echo)
    running.tell(1, DATA, b"hello")
    assert running.hear() == (1, DATA, b"HELLO")


def test_connections_are_kept_apart(relay, echo):
    running = relay()
    for number in (1, 2):
        running.open(number, echo)
    running.tell(2, DATA, b"two")
    assert running.hear() == (2, DATA, b"TWO")
    running.tell(1, DATA, b"one")
    assert running.hear() == (1, DATA, b"ONE")


def test_the_end_of_the_far_side_is_told(relay):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = relay()
        running.open(7, listener.getsockname()[1])
        listener.accept()[0].close()
        assert running.hear() == (7, END, b"")


def test_the_end_of_the_near_side_ends_the_far_one(relay):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = relay()
        running.open(7, listener.getsockname()[1])
        with listener.accept()[0] as far:
            running.tell(7, END)
            assert far.recv(1) == b""
        assert running.hear() == (7, END, b"")


def test_a_refusal_is_told(relay):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    running = relay()
    running.open(1, port)
    assert running.hear() == (1, END, b"Connection refused")


def test_it_ends_with_its_input(relay, echo):
    running = relay()
    running.open(1, echo)
    running.process.stdin.close()
    assert running.process.wait(5) == 0


def test_it_ends_by_itself_when_nothing_is_said_to_it(relay):
    assert relay(idle=1).process.wait(10) != 0
