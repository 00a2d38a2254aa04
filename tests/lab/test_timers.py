"""BGP timers: routes stay in the other clusters while a reflector's calico-node restarts, and go if it stays away."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from kubernetes import client, config
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from provision.lab import state
from provision.lab.launcher import await_stage, launch
from provision.lab.stages import Stage
from provision.lab.topology import Timers, aws_calico
from provision.provider import NoProgress

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 20
SYSTEM, REFLECTOR = "calico-system", "us-east-1-node-1"
ITSELF, ITS_PEER, OBSERVER = "us-east-1/node-1", "us-east-2/node-1", "us-east-2/node-2"
THE_REFLECTORS = ip_network("192.168.0.0/18")
BEFORE, AFTER = "203.0.113.0/25", "203.0.113.128/25"


class TimedLab:
    """A small lab, and what is done to it."""

    def __init__(self, lab, timers):
        self.timers = timers
        self._name = lab.state.name
        kubeconfig = str(lab.folder.admin_kubeconfig)
        api = config.new_client_from_config(kubeconfig, context="us-east-1")
        self._core, self._apps = client.CoreV1Api(api), client.AppsV1Api(api)

    def command(self, place, *command):
        return [sys.executable, "-m", "provision", "exec", self._name, place, "--", *command]

    def run(self, place, *command):
        done = subprocess.run(self.command(place, *command), cwd=PROJECT, capture_output=True, text=True, check=True)
        return done.stdout

    def sessions(self):
        """The sessions of the reflector's peer in the other cluster, by name: whether they are established."""
        shown = self.run(ITS_PEER, "birdcl", "-r", "-s", "/var/run/calico/bird.ctl", "show", "protocols", "all")
        protocols = [part for part in shown.split("\n\n") if " BGP " in part.partition("\n")[0]]
        return {part.split()[0]: "Established" in part.partition("\n")[0] for part in protocols}, shown

    def agents(self):
        """Uids of the reflector's calico-node by name."""
        pods = self._core.list_namespaced_pod(SYSTEM, label_selector="k8s-app=calico-node").items
        return {pod.metadata.name: pod.metadata.uid for pod in pods if pod.spec.node_name == REFLECTOR}

    def restart_agent(self):
        """Delete the reflector's calico-node, and wait until another one is in session."""
        (before,) = self.agents()
        self._core.delete_namespaced_pod(before, SYSTEM, grace_period_seconds=1)
        assert eventually(lambda: self.agents().keys() - {before})
        assert eventually(lambda: all(self.sessions()[0].values()))

    @contextmanager
    def without_agent(self):
        """The reflector has no calico-node during the body, whose DaemonSet passes it over."""
        self._choose_nodes({"kubernetes.io/hostname": "us-east-1-node-2"})
        yield
        self._choose_nodes({"kubernetes.io/hostname": None})

    def _choose_nodes(self, labels):
        change = {"spec": {"template": {"spec": {"nodeSelector": labels}}}}
        self._apps.patch_namespaced_daemon_set("calico-node", SYSTEM, change)

    def routes(self):
        """The routes of an observer in the other cluster to the pods of the reflector's."""
        shown = (line.split()[0] for line in self.run(OBSERVER, "ip", "route").splitlines())
        return [route for route in shown if "/" in route and ip_network(route).subnet_of(THE_REFLECTORS)]

    def blink(self, place, prefix):
        """A route comes and goes."""
        for change in ("add", "del"):
            self.run(place, "ip", "route", change, "blackhole", prefix)

    @contextmanager
    def watched(self, place, file):
        """Every change of the routes of that place during the body, a line each; routes of our own mark both ends."""
        changes = []
        with file.open("w") as sink:
            monitor = subprocess.Popen(self.command(place, "ip", "-o", "monitor", "route"), cwd=PROJECT, stdout=sink)
        try:
            assert eventually(lambda: self.blink(place, BEFORE) or file.read_text())
            yield changes
            self.blink(place, AFTER)
            assert eventually(lambda: f"Deleted blackhole {AFTER}" in file.read_text())
            changes += file.read_text().splitlines()
        finally:
            monitor.terminate()
            monitor.wait()


def eventually(look):
    """The first value that `look` returns and that counts as true, or its last one."""
    attempts = Retrying(
        retry=retry_if_result(lambda value: not value),
        stop=stop_after_delay(DEADLINE_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    return attempts(look)


@pytest.fixture(scope="module", params=list(Timers), ids=lambda timers: timers.value)
def timed(request, home):
    """A small lab with these timers."""
    topology = aws_calico(f"timed-{os.getpid()}", regions=2, nodes=2, timers=request.param)
    lab = launch(topology, state.claim(topology.name), progress=NoProgress())
    try:
        await_stage(lab, Stage.READY, progress=NoProgress())
        yield TimedLab(lab, request.param)
    finally:
        state.remove(lab)


def test_the_timers_asked_for_are_what_the_daemons_have_agreed_on(timed):
    _sessions, shown = timed.sessions()
    hold = shown.partition("Hold timer:")[2].split()[0].partition("/")[2]
    restart = shown.partition("Restart time:")[2].split()[0]
    assert (hold, restart) == {Timers.CALICO: ("240", "120"), Timers.FAST: ("3", "5")}[timed.timers]


@pytest.mark.parametrize("place", [OBSERVER, ITSELF])
def test_routes_outlast_a_restart_of_calico_node(timed, place, tmp_path):
    with timed.watched(place, tmp_path / "routes") as changes:
        timed.restart_agent()
    assert not [line for line in changes if line.startswith("Deleted 192.168.")], changes


@pytest.mark.parametrize("timed", [Timers.FAST], indirect=True)
def test_routes_go_when_calico_node_stays_away(timed):
    with timed.without_agent():
        assert eventually(lambda: not timed.routes())
    assert eventually(timed.routes)
