"""The talk over BIRD's control socket."""

import asyncio

import pytest

from provision.lab.calico import bird

GREETING = b"0001 BIRD 2.0.12 ready.\n"


def ask(folder, answer, command="show protocols"):
    """Put the command to a server that greets, reads a line and answers; the path is the socket's."""

    async def talk():
        async def serve(reader, writer):
            writer.write(GREETING)
            await reader.readline()
            writer.write(answer)
            writer.close()

        socket = folder / "bird.ctl"
        async with await asyncio.start_unix_server(serve, socket):
            if command == "configure":
                return await bird.reconfigure(socket)
            return await asyncio.to_thread(bird.query, socket, command)

    return asyncio.run(talk())


def test_an_answer_is_all_its_lines(tmp_path):
    answer = b"2002-Name Proto\n1002-static1 Static\n kernel1 Kernel\n0000 \n"
    reply = ask(tmp_path, answer)
    assert reply == bird.Reply(0, ("Name Proto", "static1 Static", "kernel1 Kernel"))


def test_a_refused_configuration_is_told_in_birds_words(tmp_path):
    with pytest.raises(bird.BirdRefusedError, match=r"bird\.cfg:3 syntax error"):
        ask(tmp_path, b"0002-Reading configuration\n8002 bird.cfg:3 syntax error\n", "configure")


def test_an_accepted_configuration_is_silent(tmp_path):
    ask(tmp_path, b"0002-Reading configuration\n0003 Reconfigured\n", "configure")


def test_half_an_answer_is_none(tmp_path):
    with pytest.raises(bird.BirdError, match=r"bird\.ctl"):
        ask(tmp_path, b"2002-Name Proto\n")


def test_a_daemon_that_is_not_there_is_named_by_its_socket(tmp_path):
    with pytest.raises(bird.BirdError, match=r"nowhere\.ctl"):
        bird.query(tmp_path / "nowhere.ctl", "show status")
