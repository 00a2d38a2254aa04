"""How a run of the agent ends, well and badly, against servers that speak exec v5 or v4."""

import json
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import yaml

from analysis.fleet import ClusterHandle
from probes.client import COMMAND, agent_program, column, framed, read_result, run_agent
from probes.cluster import Cluster, Completed
from probes.errors import AgentCrashed, ApiError, DeadlineExceeded, ExecFailed, KubeconfigError, PodGone

WITHIN = timedelta(seconds=5)
POD = "/api/v1/namespaces/meshproof/pods/alpha"
V4_ONLY = ("v4.channel.k8s.io",)
RESULT = {"operations": [{"ok": 1}], "health": {"control_before": "", "control_after": ""}, "clock": {"wall": 1.0}}


def framed_result(result=RESULT):
    body = json.dumps(result).encode()
    return b"noise before\n\x1eRESULT %d " % len(body) + body + b"\n"


@pytest.fixture(params=[("v5.channel.k8s.io", *V4_ONLY), V4_ONLY], ids=["v5", "v4"])
def api(request, make_api):
    with make_api(request.param) as double:
        double.objects[POD] = {"metadata": {"name": "alpha"}, "status": {"phase": "Running"}}
        yield double


@pytest.fixture
def cluster(api, tmp_path):
    cluster = Cluster(api.handle(tmp_path))
    yield cluster
    cluster.close()


def agent(cluster, within=WITHIN):
    return run_agent(cluster, "meshproof", "alpha", [{"op": "kernel"}], within=within)


def test_a_result_in_small_frames_is_put_together(api, cluster):
    api.behave = api.finish(0, framed_result(), frame=7)
    run = agent(cluster)
    assert run.operations == ({"ok": 1},)
    assert run.retries == 0


def test_the_program_and_the_plan_arrive_over_standard_input(api, cluster):
    received = []

    async def behave(socket):
        received.append(await api.read_stdin(socket, len(agent_program()) + 10))
        await api.finish(0, framed_result())(socket)

    api.behave = behave
    agent(cluster)
    plan = json.loads(received[0][len(agent_program()) :].partition(b"\n")[2])
    assert plan == {"deadline": 5.0, "control": None, "operations": [{"op": "kernel"}]}
    assert sum(map(len, api.execs[0][1])) < 1000, "the program must not travel in the address"


def test_binary_output_is_kept_as_it_is(api, cluster):
    data = bytes(range(256)) * 50
    api.behave = api.finish(0, data, b"\xff\xfe", frame=1000)
    done = cluster.exec("meshproof", "alpha", ["cat"], within=WITHIN)
    assert (done.exit_code, done.stdout, done.stderr) == (0, data, b"\xff\xfe")


def test_a_non_zero_exit_is_a_result_of_exec_and_a_crash_of_the_agent(api, cluster):
    api.behave = api.finish(3, b"", b"Traceback: boom")
    assert cluster.exec("meshproof", "alpha", ["false"], within=WITHIN).exit_code == 3
    with pytest.raises(AgentCrashed, match="ended with 3: Traceback: boom"):
        agent(cluster)


def test_a_stream_without_a_status_is_tried_again_and_counted(api, cluster):
    attempts = []

    async def behave(socket):
        attempts.append(socket)
        if len(attempts) < 3:
            await socket.close()
        else:
            await api.finish(0, framed_result())(socket)

    api.behave = behave
    assert agent(cluster).retries == 2


def test_a_stream_that_never_has_a_status_fails(api, cluster):
    async def behave(socket):
        await socket.send_bytes(b"\x01half a res")
        await socket.close()

    api.behave = behave
    with pytest.raises(ExecFailed, match="without a status"):
        agent(cluster)


def test_a_pod_that_dies_midway_is_told_from_a_broken_stream(api, cluster):
    async def behave(socket):
        del api.objects[POD]
        await socket.close()

    api.behave = behave
    with pytest.raises(PodGone, match="not there any more"):
        agent(cluster)
    assert len(api.execs) == 1


def test_a_pod_that_is_not_there_is_gone(api, cluster):
    api.exec_status = 404
    del api.objects[POD]
    with pytest.raises(PodGone):
        agent(cluster)


def test_a_refused_exec_tells_what_the_server_said(api, cluster):
    api.exec_status = 403
    with pytest.raises(ExecFailed, match="refused with 403: exec is not possible"):
        agent(cluster)


def test_a_command_that_never_ends_is_left_at_the_deadline(api, cluster):
    async def behave(socket):
        await socket.receive()
        while not socket.closed:
            await socket.receive()

    api.behave = behave
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        cluster.exec("meshproof", "alpha", ["sleep"], within=timedelta(seconds=0.3), stdin=b"x")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        (b"nothing framed", "without a result"),
        (b"\x1eRESULT 999 {}", "cut short"),
        (b"\x1eRESULT many {}", "without a result"),
    ],
)
def test_a_garbled_result_is_a_crash(stdout, message):
    with pytest.raises(AgentCrashed, match=message):
        read_result("alpha", Completed(0, stdout, b""))


def test_columns_are_spelt_out():
    batch = {
        "count": 3,
        "columns": {
            "outcome": {"values": ["open", "dropped"], "index": [0, 1, 0]},
            "ttl": {"values": [62], "index": None},
        },
    }
    assert column(batch, "outcome") == ["open", "dropped", "open"]
    assert column(batch, "ttl") == [62, 62, 62]


def test_byte_code_of_another_python_gives_way_to_the_source(make_pod, monkeypatch):
    agent_program.cache_clear()
    monkeypatch.setattr("probes.client.MAGIC_NUMBER", b"\0\0\0\0")
    monkeypatch.setattr("probes.client.marshal.dumps", lambda code: b"not byte code at all")
    try:
        assert make_pod().run({"op": "kernel"}).operations[0]["links"]
    finally:
        agent_program.cache_clear()


def test_a_crash_of_the_agent_tells_its_last_words(make_pod):
    with pytest.raises(AgentCrashed, match="KeyError"):
        make_pod().run({"op": "no such operation"})


# --- requests ---------------------------------------------------------------------------------------------------------


def test_lists_are_raw_json(api, cluster):
    api.objects["/api/v1/nodes"] = {"items": [{"metadata": {"name": "n"}, "strange": True}]}
    assert cluster.items("/api/v1/nodes") == [{"metadata": {"name": "n"}, "strange": True}]


def test_a_busy_server_is_asked_again_and_that_is_counted(api, cluster):
    api.objects["/api/v1/nodes"] = {"items": []}
    api.answers["/api/v1/nodes"] = [(503, {"message": "busy"}), (429, {"message": "slow down"})]
    assert cluster.items("/api/v1/nodes") == []
    assert cluster.retries == 2


def test_a_refusal_is_not_asked_again(api, cluster):
    api.answers["/api/v1/nodes"] = [(403, {"message": "nodes is forbidden"})] * 2
    with pytest.raises(ApiError, match="us-east-1 said 403: nodes is forbidden"):
        cluster.items("/api/v1/nodes")
    assert len(api.requests) == 1


def test_a_server_that_is_not_there_is_told_without_a_library_s_wrapping(api, tmp_path):
    handle = api.handle(tmp_path)
    path = tmp_path / "kubeconfig"
    path.write_text(path.read_text().replace(str(api.port), "1"))
    with pytest.raises(ApiError, match=r"did not answer: .*Connection refused") as caught:
        Cluster(handle).items("/api/v1/nodes")
    assert "Max retries" not in str(caught.value)


def test_a_kubeconfig_that_does_not_verify_certificates_is_refused(api, tmp_path):
    handle = api.handle(tmp_path)
    path = tmp_path / "kubeconfig"
    careless = yaml.safe_load(path.read_text())
    careless["clusters"][0]["cluster"] |= {"insecure-skip-tls-verify": True}
    path.write_text(yaml.safe_dump(careless))
    with pytest.raises(KubeconfigError, match="certificates are always verified"):
        Cluster(handle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("apiVersion: v1\nkind: Config\ncontexts: []\n", "context 'us-east-1' cannot be used"),
        ("{ not: [yaml", "cannot be understood"),
        ("", "cannot be used|cannot be understood"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_told_clearly(tmp_path, content, message):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KubeconfigError, match=message) as caught:
        Cluster(ClusterHandle("us-east-1", str(path), "us-east-1"))
    assert str(path) in str(caught.value)


def staying(api, heard, codes=(0, 0, 0)):
    """A command that stays: it takes the program once, then plan after plan, and says how each ended."""

    async def behave(socket):
        expected = len(agent_program()) + 1
        for code in codes:
            heard.append(await api.read_stdin(socket, expected))
            expected = 1
            for said in (result_of(code), b"\x1eENDED %d\n" % code):
                await socket.send_bytes(b"\x01" + said)
        await socket.close()

    return behave


def result_of(code):
    return framed_result() if code == 0 else b""


def test_an_agent_that_stays_is_asked_again_over_the_same_stream(api, cluster):
    heard = []
    api.behave = staying(api, heard)
    assert [agent(cluster).operations for _ in range(3)] == [({"ok": 1},)] * 3
    assert (len(api.execs), len(heard)) == (1, 3)
    assert cluster.retries == 0


def test_a_plan_that_crashes_is_told_and_does_not_end_the_one_who_runs_it(api, cluster):
    heard = []
    api.behave = staying(api, heard, codes=(0, 1, 0))
    agent(cluster)
    with pytest.raises(AgentCrashed, match="ended with 1"):
        agent(cluster)
    assert agent(cluster).operations == ({"ok": 1},)
    assert len(api.execs) == 1


def test_an_agent_that_went_away_meanwhile_is_started_again_and_counted(api, cluster):
    heard = []
    api.behave = staying(api, heard, codes=(0,))
    agent(cluster)
    again = agent(cluster)
    assert (again.retries, cluster.retries, len(api.execs)) == (1, 1, 2)


def test_the_boot_code_runs_plan_after_plan_and_ends_with_its_input():
    plan = json.dumps({"deadline": 3, "control": None, "operations": []}).encode()
    done = subprocess.run(
        [sys.executable, *COMMAND[1:]],
        input=agent_program() + framed(plan),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\x1eRESULT ") == 1
    assert done.stdout.endswith(b"\n\x1eENDED 0\n")
