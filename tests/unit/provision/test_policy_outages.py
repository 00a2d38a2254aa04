"""Policies that are taken away are written down first and put back as they were, whatever happens."""

import json
from contextlib import contextmanager

import pytest

from analysis.facts import PolicyObject
from analysis.fleet import ClusterHandle, Fleet
from provision.lab.topology import aws_calico
from provision.outages import policies as outage
from provision.outages.journal import journal_of
from provision.outages.policies import policies_away, policy_remedy

COLLECTION = "/apis/crd.projectcalico.org/v1/globalnetworkpolicies"
SPEC = {"selector": "app == 'cockroachdb'"}


class Api:
    """A cluster that holds policies by name."""

    def __init__(self):
        self.held = {"isolation": {"metadata": {"name": "isolation", "uid": "1", "labels": {"a": "b"}}, "spec": SPEC}}

    def get(self, path):
        assert path == COLLECTION
        return {"items": list(self.held.values())}

    def post(self, path, content):
        assert path == COLLECTION
        self.held[content["metadata"]["name"]] = content

    def delete(self, path):
        del self.held[path.rpartition("/")[2]]


@pytest.fixture
def api(monkeypatch):
    """The only cluster there is."""
    double = Api()

    @contextmanager
    def connected(_handle):
        yield double

    monkeypatch.setattr(outage, "connected", connected)
    return double


@pytest.fixture
def fleet(tmp_path):
    """An environment with one cluster, and its journal in a folder that goes."""
    handles = (ClusterHandle("us-east-1", "config", "us-east-1"),)
    return Fleet(aws_calico("unit", regions=2).plan, "lab", handles, frozenset(), state_dir=str(tmp_path))


@pytest.fixture
def remedy(api, fleet):
    document = json.dumps(api.held["isolation"])
    one = PolicyObject("us-east-1", "GlobalNetworkPolicy", "crd.projectcalico.org/v1", "", "isolation", document)
    return policy_remedy(fleet, one, COLLECTION)


def test_a_policy_is_away_for_a_while_and_then_there_as_it_was(api, fleet, remedy):
    with policies_away(fleet, [remedy]):
        assert not api.held
        assert "policies of the database in us-east-1" in journal_of(fleet).summary
    assert api.held == {"isolation": {"metadata": {"name": "isolation", "labels": {"a": "b"}}, "spec": SPEC}}
    assert journal_of(fleet).read() is None


def test_whoever_fails_meanwhile_has_them_back(api, fleet, remedy):
    with pytest.raises(KeyboardInterrupt), policies_away(fleet, [remedy]):
        raise KeyboardInterrupt
    assert "isolation" in api.held


def test_what_a_dead_process_left_away_is_put_back_from_its_journal(api, fleet, remedy):
    journal_of(fleet).write("unit", "policies taken away", (remedy,))
    api.held.clear()
    assert "us-east-1: policy isolation put back" in journal_of(fleet).heal()
    assert "isolation" in api.held


def test_one_that_somebody_has_put_back_meanwhile_is_left_as_it_is(api, remedy):
    assert remedy.apply() == "us-east-1: policy isolation is there"
    assert api.held["isolation"]["metadata"]["uid"] == "1"
