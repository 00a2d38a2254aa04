"""Outages are written down before they are made, and whoever finds one heals it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from analysis.fleet import Capability, ClusterHandle, Fleet, OutageMode
from provision.lab.state import Process
from provision.lab.topology import aws_calico
from provision.outages import OutageError, OutageOrder, remedy
from provision.outages.journal import Journal, journal_of, journals_of
from provision.outages.journaled import Course, JournaledOutages
from provision.provider import allow_disruption

ORDER = OutageOrder(OutageMode.ISOLATION, ("us-east-1",))


EAST, WEST = "us-east-1", "us-west-1"


@dataclass(frozen=True)
class Deleted:
    """The damage is a file; to heal is to delete it, which a folder in its place prevents."""

    kind: ClassVar[str] = "deleted"
    path: str
    region: str = ""

    def apply(self):
        try:
            Path(self.path).unlink(missing_ok=True)
        except OSError as error:
            raise OutageError(f"{self.path} is still there", observed=str(error)) from error
        return f"{self.path} deleted"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A state folder of one's own, and a remedy that needs no environment."""
    monkeypatch.setenv("MESHPROOF_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(remedy.KINDS, Deleted.kind, "remedies_of_this_test:Deleted")
    monkeypatch.setitem(sys.modules, "remedies_of_this_test", SimpleNamespace(Deleted=Deleted))


@pytest.fixture
def fleet():
    topology = aws_calico("prod")
    handles = tuple(ClusterHandle(region.name, "/somewhere/kubeconfig", region.name) for region in topology.regions)
    return Fleet(
        topology.plan, "attach", handles, frozenset({Capability.DISRUPTION}), outage_modes=frozenset({ORDER.mode})
    )


@pytest.fixture
def damage(tmp_path):
    return tmp_path / "damage"


@pytest.fixture
def outages(fleet, damage):
    return JournaledOutages(fleet, {ORDER.mode: lambda order: Course((Deleted(str(damage)),), lambda: harm(damage))})


def harm(damage):
    damage.touch()
    return ()


def owned_by(journal, process):
    """Let the journal say that another process made the outage."""
    text = journal.path.read_text()
    mine = Process.of(os.getpid())
    text = text.replace(f'"pid": {mine.pid}', f'"pid": {process.pid}').replace(mine.birth, process.birth)
    journal.path.write_text(text)


@pytest.fixture
def stranger():
    """Another process, which is alive."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield Process.of(process.pid)
        process.kill()


def test_the_journal_is_there_before_anything_is_harmed(fleet, damage):
    seen = []

    def look():
        seen.append(journal_of(fleet).read())
        return ()

    outages = JournaledOutages(fleet, {ORDER.mode: lambda order: Course((Deleted(str(damage)),), look)})
    outages.begin(ORDER)
    outages.heal()

    (entry,) = seen
    assert (entry.environment, entry.outage) == ("prod", "isolation of us-east-1")
    assert entry.owner == Process.of(os.getpid())
    assert entry.remedies == (Deleted(str(damage)),)


def test_only_its_owner_can_read_the_journal(outages, fleet):
    outages.begin(ORDER)
    assert journal_of(fleet).path.stat().st_mode & 0o777 == 0o600
    assert journal_of(fleet).path.parent.stat().st_mode & 0o777 == 0o700
    outages.heal()


def test_one_of_two_regions_is_given_back_and_the_other_stays_lost(fleet, damage, tmp_path):
    other = tmp_path / "other"
    remedies = (Deleted(str(damage), EAST), Deleted(str(other), WEST), Deleted(str(tmp_path / "timer")))
    course = Course(remedies, lambda: (damage.touch(), other.touch(), ())[-1])
    outages = JournaledOutages(fleet, {ORDER.mode: lambda order: course})
    outages.begin(ORDER)
    assert outages.give_back(EAST) == (f"{damage} deleted",)
    assert other.exists()
    assert journal_of(fleet).read().remedies == remedies[1:]
    outages.heal()
    assert not other.exists()
    assert journal_of(fleet).read() is None


def test_healing_twice_is_fine(outages, fleet, damage):
    outages.begin(ORDER)
    assert damage.exists()
    assert outages.heal() == ("isolation of us-east-1: over", f"{damage} deleted")
    assert not damage.exists()
    assert not journal_of(fleet).path.exists()
    assert outages.heal() == ()


@pytest.mark.parametrize("problem", [OutageError("no effect"), KeyboardInterrupt(), ZeroDivisionError()])
def test_an_outage_that_fails_half_way_is_healed(fleet, damage, problem):
    def fail():
        damage.touch()
        raise problem

    outages = JournaledOutages(fleet, {ORDER.mode: lambda order: Course((Deleted(str(damage)),), fail)})
    with pytest.raises(type(problem)):
        outages.begin(ORDER)
    assert not damage.exists()
    assert not journal_of(fleet).path.exists()


def test_what_a_dead_process_left_is_healed_before_the_next_outage(outages, fleet, damage, tmp_path):
    outages.begin(ORDER)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # ends with its input, which ends here
        dead = Process.of(process.pid)
    owned_by(journal_of(fleet), dead)

    order = []
    other = tmp_path / "other"
    course = Course((Deleted(str(other)),), lambda: order.append(damage.exists()) or ())
    JournaledOutages(fleet, {ORDER.mode: lambda _: course}).begin(ORDER)

    assert order == [False]
    assert journal_of(fleet).heal()


def test_an_outage_of_a_process_that_is_alive_is_told_and_left_alone(outages, fleet, damage, stranger):
    outages.begin(ORDER)
    owned_by(journal_of(fleet), stranger)
    for attempt in (journal_of(fleet).heal, lambda: outages.begin(ORDER)):
        with pytest.raises(OutageError) as told:
            attempt()
        assert str(stranger.pid) in str(told.value)
        assert "isolation of us-east-1" in str(told.value)
    assert journal_of(fleet).heal_abandoned() == ()
    assert damage.exists()


def test_what_cannot_be_healed_stays_in_the_journal(fleet, damage, tmp_path):
    other = tmp_path / "other"
    course = Course((Deleted(str(damage)), Deleted(str(other))), lambda: (damage.mkdir(), other.touch(), ())[-1])
    outages = JournaledOutages(fleet, {ORDER.mode: lambda order: course})
    outages.begin(ORDER)
    with pytest.raises(OutageError, match="could not be healed"):
        outages.heal()
    assert not other.exists()  # one remedy that fails does not keep the others from being applied
    assert journal_of(fleet).read().remedies == (Deleted(str(damage)),)

    damage.rmdir()
    assert outages.heal()
    assert journal_of(fleet).read() is None


@pytest.mark.parametrize("content", ["", "{", '{"environment": "prod"', "[]", '{"remedies": [{"kind": "unheard"}]}'])
def test_a_journal_that_cannot_be_read_stops_everything(outages, fleet, damage, content):
    journal = journal_of(fleet)
    journal.path.parent.mkdir(parents=True)
    journal.path.write_text(content)
    for attempt in (outages.heal, lambda: outages.begin(ORDER)):
        with pytest.raises(OutageError) as told:
            attempt()
        assert str(journal.path) in str(told.value)
    assert not damage.exists()
    assert journal.summary


def test_a_draft_that_was_never_finished_means_that_nothing_was_harmed(outages, fleet):
    draft = journal_of(fleet).path.with_suffix(".new")
    draft.parent.mkdir(parents=True)
    draft.write_text('{"environment": "pr')
    assert outages.heal() == ()


def test_nothing_is_harmed_when_the_journal_cannot_be_written(outages, fleet, damage):
    folder = journal_of(fleet).path.parent
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with pytest.raises(OutageError):
        outages.begin(ORDER)
    assert not damage.exists()


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (OutageOrder(OutageMode.POWER, ("us-east-1",)), "isolation"),
        (OutageOrder(OutageMode.ISOLATION, ("us-esat-1",)), "us-east-1"),
        (OutageOrder(OutageMode.ISOLATION, ()), "us-east-1"),
    ],
)
def test_what_cannot_be_done_here_is_said_with_what_can(outages, order, expected):
    with pytest.raises(OutageError) as told:
        outages.begin(order)
    assert expected in str(told.value)


def test_journals_are_found_by_the_name_of_their_environment(outages, fleet):
    assert journals_of("prod") == ()
    outages.begin(ORDER)
    assert journals_of("prod") == (journal_of(fleet),)
    assert "isolation of us-east-1" in journal_of(fleet).summary
    assert journals_of("staging") == ()
    outages.heal()


def test_the_journal_of_a_lab_is_in_its_folder_and_goes_with_it(tmp_path):
    topology = aws_calico("demo")
    fleet = Fleet(topology.plan, "lab", (), frozenset(), state_dir=str(tmp_path))
    assert journal_of(fleet) == Journal(tmp_path / "outage.json")


def test_leave_to_disrupt_is_what_gives_the_modes(fleet):
    quiet = Fleet(fleet.plan, "attach", fleet.clusters, frozenset({Capability.DATABASE_PODS}))
    courses = {mode: lambda order: Course((), lambda: ()) for mode in OutageMode}
    assert JournaledOutages(quiet, courses).modes == frozenset()
    assert quiet.outage_modes == frozenset()

    allowed = allow_disruption(quiet, "prod")
    assert allowed.outage_modes == {OutageMode.PODS, OutageMode.POD_EACH, OutageMode.SHUTDOWN}
    assert JournaledOutages(allowed, courses).modes
