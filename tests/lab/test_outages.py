"""Each way to lose a region of the lab takes effect, and is healed whatever becomes of whoever made it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from analysis.fleet import OutageMode
from provision.environment_file import load_environment
from provision.lab import outages as lab_outages
from provision.lab.control import LabControl
from provision.lab.entry import Entry, environment
from provision.outages import OutageError, OutageOrder
from provision.outages import journal as journal_module
from provision.outages.journal import journal_of
from provision.provider import NoProgress, allow_disruption, provider_for

LOST, OTHER = "us-east-1", "us-east-2"
POD = f"{LOST}.{LOST}.cockroachdb-0"
LEFT_BEHIND = """
for name in $(ls /run/netns | grep -v '[.]'); do nsenter --net=/run/netns/$name nft list tables; done | grep outage
nft list tables | grep outage
for router in /run/netns/vpc-*; do nsenter --net=$router ip -br link show; done | grep DOWN
grep -l '^State:.T' /proc/[0-9]*/status
grep -l 'outage-time[r]' /proc/[0-9]*/cmdline
ls /run/lab | grep outage
true
"""
"""Whatever an outage has left in a lab, as lines of text."""

STATES = f"""
for pid in $(ip netns pids {POD}); do
    grep -q '^NSpid:.*[^0-9]1$' /proc/$pid/status || grep ^State: /proc/$pid/status
done
"""
"""The states of a pod's processes, but for its first."""


@pytest.fixture(scope="module")
def fleet(lab):
    described = load_environment(lab.folder.environment)
    return provider_for(described).up(described, folder=lab.folder.path, progress=NoProgress())


@pytest.fixture(scope="module")
def control(lab):
    return LabControl(lab.state.name)


@pytest.fixture
def outages(lab, fleet):
    """Makes outages; whatever a test leaves of one is healed, and nothing may be left then."""
    found = provider_for(load_environment(lab.folder.environment)).outages(fleet)
    yield found
    found.heal()
    assert left_behind(lab) == ""
    assert not journal_of(fleet).path.exists()


def left_behind(lab):
    argv = Entry(lab).into_container(["sh", "-c", LEFT_BEHIND])
    return subprocess.run(argv, capture_output=True, text=True, env=environment(), check=True).stdout


@retry(retry=retry_if_result(lambda it: not it), wait=wait_fixed(0.05), stop=stop_after_delay(60))
def becomes_true(look):
    """Wait for it, as long as a busy machine may take."""
    return look()


def address(control, region, number=1):
    """A node's, as its API tells it."""
    nodes = sorted(control.get(region, "/api/v1/nodes")["items"], key=lambda node: node["metadata"]["name"])
    return next(each["address"] for each in nodes[number - 1]["status"]["addresses"] if each["type"] == "InternalIP")


def pings(at, place, target):
    return at(place, "ping", "-q", "-c", "1", "-W", "1", target).returncode == 0


def test_every_mode_of_an_unharmed_lab_is_offered(outages, fleet):
    assert outages.modes == fleet.outage_modes == frozenset(OutageMode)


def test_an_isolated_region_goes_on_by_itself(outages, at, control):
    outages.begin(OutageOrder(OutageMode.ISOLATION, (LOST,)))
    assert not pings(at, f"{LOST}/node-1", address(control, OTHER))
    assert not pings(at, f"{OTHER}/node-1", address(control, LOST))
    assert pings(at, f"{LOST}/node-1", address(control, LOST, 2))
    outages.heal()
    becomes_true(lambda: pings(at, f"{LOST}/node-1", address(control, OTHER)))


def test_of_two_lost_regions_one_is_given_back_first(outages, at, control):
    def well(region):
        return pings(at, f"{region}/node-1", address(control, region, 2))

    outages.begin(OutageOrder(OutageMode.POWER, (LOST, OTHER)))
    outages.give_back(LOST)
    becomes_true(lambda: well(LOST))
    assert not well(OTHER)
    outages.heal()
    becomes_true(lambda: well(OTHER))
    control.wait_healthy(timedelta(seconds=60))


def test_one_way_takes_only_what_leaves(outages, at, control):
    def echoes():
        """Echo requests that the lost region's first node has received."""
        icmp = [line.split() for line in at(f"{LOST}/node-1", "cat", "/proc/net/snmp").stdout.splitlines()]
        names, values = [line for line in icmp if line[0] == "Icmp:"]
        return int(values[names.index("InEchos")])

    outages.begin(OutageOrder(OutageMode.ONE_WAY, (LOST,)))
    before = echoes()
    assert not pings(at, f"{OTHER}/node-1", address(control, LOST))
    assert echoes() > before
    outages.heal()
    becomes_true(lambda: pings(at, f"{OTHER}/node-1", address(control, LOST)))


def test_power_takes_links_and_processes(outages, at, control):
    path = f"/api/v1/namespaces/{LOST}/pods/cockroachdb-0"

    def restarts():
        return sum(each["restartCount"] for each in control.get(LOST, path)["status"].get("containerStatuses", ()))

    becomes_true(lambda: control.get(LOST, path)["status"]["phase"] == "Running")
    before = restarts()
    outages.begin(OutageOrder(OutageMode.POWER, (LOST,)))
    assert not pings(at, f"{LOST}/node-1", address(control, LOST, 2))
    assert not pings(at, f"{LOST}/node-1", address(control, OTHER))
    becomes_true(lambda: restarts() > before)  # which is seen through an API that stays
    outages.heal()
    becomes_true(lambda: pings(at, f"{LOST}/node-1", address(control, LOST, 2)))
    control.wait_healthy(timedelta(seconds=60))


def test_processes_that_hang_keep_what_they_have(outages, at):
    def states():
        found = at(f"{LOST}/vpc", "sh", "-c", STATES).stdout.splitlines()
        return {line.split()[1] for line in found}

    becomes_true(states)
    outages.begin(OutageOrder(OutageMode.HANG, (LOST,)))
    assert states() == {"T"}
    outages.heal()
    becomes_true(lambda: "T" not in states())


def test_a_control_plane_is_lost_to_its_nodes_and_still_seen_from_here(outages, at, control):
    server = address(control, LOST)

    def answers():
        return at(f"{LOST}/node-2", "timeout", "2", "bash", "-c", f": < /dev/tcp/{server}/6443").returncode == 0

    assert answers()
    outages.begin(OutageOrder(OutageMode.CONTROL_PLANE, (LOST,)))
    assert not answers()
    assert control.get(LOST, "/api/v1/nodes")["items"]
    assert pings(at, f"{LOST}/node-2", address(control, OTHER))
    outages.heal()
    becomes_true(answers)
    control.wait_healthy(timedelta(seconds=60))


def test_the_reflector_is_started_anew(outages, control):
    def agents():
        pods = control.get(LOST, "/api/v1/namespaces/calico-system/pods")["items"]
        return {pod["metadata"]["uid"] for pod in pods if pod["metadata"]["labels"].get("k8s-app") == "calico-node"}

    before = agents()
    outages.begin(OutageOrder(OutageMode.ROUTING, (LOST,)))
    assert len(before - agents()) == 1
    outages.heal()
    control.wait_healthy(timedelta(seconds=60))


def test_the_pods_of_a_region_are_scaled_away_and_back(outages, control):
    path = f"/apis/apps/v1/namespaces/{LOST}/statefulsets/cockroachdb"
    pod = f"/api/v1/namespaces/{LOST}/pods/cockroachdb-0"
    becomes_true(lambda: (control.get(LOST, pod) or {}).get("status", {}).get("phase") == "Running")
    replicas = control.get(LOST, path)["spec"]["replicas"]
    ends = outages.begin(OutageOrder(OutageMode.PODS, (LOST,)))
    assert {(end.region, end.pod) for end in ends} == {(LOST, f"cockroachdb-{number}") for number in range(replicas)}
    assert all(end.exit_code is not None for end in ends)
    assert control.get(LOST, pod) is None
    outages.heal()
    assert control.get(LOST, path)["spec"]["replicas"] == replicas
    becomes_true(lambda: (control.get(LOST, pod) or {}).get("status", {}).get("phase") == "Running")


def test_pods_end_by_force_in_every_region_or_in_their_own_time_in_one(outages, control):
    def running(region):
        pod = control.get(region, f"/api/v1/namespaces/{region}/pods/cockroachdb-0") or {"metadata": {}}
        return pod.get("status", {}).get("phase") == "Running" and pod["metadata"]["uid"]

    before = {region: becomes_true(lambda region=region: running(region)) for region in (LOST, OTHER)}
    assert outages.begin(OutageOrder(OutageMode.POD_EACH, (LOST, OTHER))) == ()
    after = {region: becomes_true(lambda region=region: running(region)) for region in (LOST, OTHER)}
    assert not set(before.values()) & set(after.values())

    (end,) = outages.begin(OutageOrder(OutageMode.SHUTDOWN, (LOST,)))
    assert end.exit_code is not None
    assert end.seconds is not None
    becomes_true(lambda: running(LOST))


def test_an_attached_environment_offers_what_its_api_can_once_that_is_allowed(lab, control, tmp_path):
    described = yaml.safe_load(lab.folder.environment.read_text())
    del described["provider"]
    attached = tmp_path / "attached.yaml"
    attached.write_text(yaml.safe_dump(described))
    environment_file = load_environment(attached)
    provider = provider_for(environment_file)
    fleet = provider.up(environment_file, folder=tmp_path, progress=NoProgress())
    assert provider.outages(fleet).modes == frozenset()

    outages = provider.outages(allow_disruption(fleet, lab.state.name))
    assert outages.modes == {OutageMode.PODS, OutageMode.POD_EACH, OutageMode.SHUTDOWN}
    path = f"/apis/apps/v1/namespaces/{LOST}/statefulsets/cockroachdb"
    replicas = control.get(LOST, path)["spec"]["replicas"]
    outages.begin(OutageOrder(OutageMode.PODS, (LOST,)))
    assert control.get(LOST, path)["spec"]["replicas"] == 0
    outages.heal()
    assert control.get(LOST, path)["spec"]["replicas"] == replicas


def test_the_store_of_a_region_is_started_anew(cilium_lab):
    described = load_environment(cilium_lab.folder.environment)
    provider = provider_for(described)
    fleet = provider.up(described, folder=cilium_lab.folder.path, progress=NoProgress())
    region, control = fleet.clusters[0].region, LabControl(cilium_lab.state.name)

    def stores():
        pods = control.get(region, "/api/v1/namespaces/kube-system/pods")["items"]
        return {
            pod["metadata"]["uid"]
            for pod in pods
            if pod["metadata"].get("labels", {}).get("k8s-app") == "clustermesh-apiserver"
        }

    before = stores()
    outages = provider.outages(fleet)
    outages.begin(OutageOrder(OutageMode.ROUTING, (region,)))
    outages.heal()
    assert before
    assert not before & stores()
    control.wait_healthy(timedelta(seconds=60))


def in_a_process_that_is_killed(outages, order, point):
    """Make and heal an outage in another process, which kills itself at that point; whether it came so far.

    A point is before or after something that is written or done: the journal, a command, a step of the healing.
    """
    child = os.fork()
    if child == 0:
        left = point

        def deadly(function):
            def call(*arguments):
                nonlocal left
                for phase in ("before", "after"):
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    if phase == "before":
                        result = function(*arguments)
                return result

            return call

        with suppress(BaseException):
            lab_outages.run_script = deadly(lab_outages.run_script)
            journal_module._sync_folder = deadly(journal_module._sync_folder)
            outages.begin(order)
            outages.heal()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize("mode", [OutageMode.POWER, OutageMode.HANG])
def test_an_outage_whose_maker_was_killed_anywhere_is_healed_by_whoever_comes_next(lab, fleet, outages, mode):
    point = 0
    while in_a_process_that_is_killed(outages, OutageOrder(mode, (LOST,)), point):
        journal_of(fleet).heal()
        assert left_behind(lab) == "", f"killed at point {point}"
        assert not journal_of(fleet).path.exists()
        point += 1
    assert point >= 10


def test_the_command_line_tells_of_an_outage_and_heals_it(lab, outages, provision):
    assert in_a_process_that_is_killed(outages, OutageOrder(OutageMode.ISOLATION, (LOST,)), 8)
    name = lab.state.name
    assert "isolation of us-east-1" in provision("list").stdout
    assert f"python -m provision heal {name}" in provision("list").stdout
    assert "isolation of us-east-1" in json.loads(provision("status", name, "--json").stdout)["outage"]

    assert "isolation of us-east-1: over" in provision("heal", name).stdout
    assert left_behind(lab) == ""
    assert "no outage" in provision("heal", name).stdout
    assert "isolation" not in provision("list").stdout


@pytest.mark.parametrize("mode", [OutageMode.POWER, OutageMode.HANG])
def test_the_timer_heals_when_nobody_comes(lab, outages, mode):
    order = OutageOrder(mode, (LOST,), within=timedelta(seconds=1))
    assert in_a_process_that_is_killed(outages, order, 6)
    becomes_true(lambda: left_behind(lab) == "")


def test_an_outage_of_somebody_who_is_alive_is_left_to_them(outages, control, provision, lab):
    outages.begin(OutageOrder(OutageMode.ISOLATION, (LOST,)))
    told = provision("heal", lab.state.name)
    assert told.returncode == OutageError.exit_code
    assert f"process {os.getpid()}" in told.stderr
    assert "outage" in left_behind(lab)


MAKER = """
import signal, sys
from pathlib import Path
from analysis.fleet import OutageMode
from provision.environment_file import load_environment
from provision.outages import OutageOrder
from provision.provider import NoProgress, provider_for
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
described = load_environment(Path(sys.argv[1]))
provider = provider_for(described)
outages = provider.outages(provider.up(described, folder=Path(sys.argv[2]), progress=NoProgress()))
try:
    outages.begin(OutageOrder(OutageMode.ISOLATION, (sys.argv[3],)))
    print("begun", flush=True)
    signal.pause()
finally:
    outages.heal()
"""


# Its signals are at their defaults: who runs the tests in the background has some of them ignored.
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_is_told_to_end_heals_first(lab, outages, tmp_path, ending):
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(lab.folder.environment), str(tmp_path), LOST],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as maker:
        assert maker.stdout.readline() == "begun\n"
        assert "outage" in left_behind(lab)
        maker.send_signal(ending)
        _, said = maker.communicate()
    assert "KeyboardInterrupt" in said
    assert left_behind(lab) == ""
