"""Container logs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from provision.lab.kube.kubelet import logs
from provision.lab.kube.kubelet.logs import LogFile, LogQuery


def lines(log, **query):
    async def read():
        return [line async for line in log.read(LogQuery(**query))]

    return asyncio.run(read())


def written(tmp_path, *chunks):
    log = LogFile(tmp_path / "0.log")
    for stream, data in chunks:
        log.write(stream, data)
    return log


def test_output_is_kept_by_lines_whatever_its_pieces(tmp_path):
    log = written(tmp_path, ("stdout", b"on"), ("stderr", b"oops\n"), ("stdout", b"e\ntwo\nthr"))
    assert lines(log) == [b"oops\n", b"one\n", b"two\n"]
    log.close()
    assert lines(log) == [b"oops\n", b"one\n", b"two\n", b"thr\n"]


def test_the_file_is_what_container_runtimes_write(tmp_path):
    written(tmp_path, ("stderr", b"oops\n")).close()
    time, stream, tag, text = (tmp_path / "0.log").read_text().rstrip("\n").split(" ")
    assert datetime.fromisoformat(time[:26]).year >= 2026
    assert (stream, tag, text) == ("stderr", "F", "oops")


def test_tail_since_limit_and_timestamps(tmp_path):
    log = written(tmp_path, ("stdout", b"one\ntwo\nthree\n"))
    log.close()
    assert lines(log, tail_lines=1) == [b"three\n"]
    assert lines(log, tail_lines=0) == []
    assert lines(log, since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(lines(log, since=datetime.now(UTC) - timedelta(hours=1))) == 3
    assert b"".join(lines(log, limit_bytes=6)) == b"one\ntw"
    assert lines(log, timestamps=True)[0].endswith(b"Z one\n")


def test_a_follower_gets_what_comes_and_leaves_with_the_container(tmp_path):
    async def follow():
        log = written(tmp_path, ("stdout", b"before\n"))
        seen = []

        async def read():
            async for line in log.read(LogQuery(follow=True)):
                seen.append(line)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        log.write("stdout", b"after\n")
        log.close()
        await reading
        return seen

    assert asyncio.run(follow()) == [b"before\n", b"after\n"]


def test_an_endless_log_stays_small_and_keeps_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "ROTATE_AT_BYTES", 1000)
    log = written(tmp_path, *(("stdout", b"line %d\n" % number) for number in range(500)))
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    assert lines(log)[-1] == b"line 499\n"
