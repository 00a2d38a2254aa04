"""Objects, their revisions, and what watchers are told."""

from __future__ import annotations

import pytest

from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.selectors import LabelSelector, Selection
from provision.lab.kube.apiserver.store import ADDED, DELETED, EVENTS_KEPT, MODIFIED, Store

KEY = ("", "things")


def thing(name: str = "x", **labels: str) -> dict:
    return {"apiVersion": "v1", "metadata": {"name": name, "namespace": "n", "labels": labels}}


def test_a_watcher_sees_what_its_selection_lets_through():
    store = Store()
    all_of_them = store.subscribe(KEY, None)
    for labels in ({"in": "no"}, {"in": "yes"}, {"in": "yes", "more": "1"}, {"in": "no"}):
        store.write(KEY, thing(**labels))
    store.remove(KEY, thing())
    events = all_of_them.drain()
    chosen = Selection(labels=LabelSelector.parse("in=yes"))
    assert [event.seen_through(Selection()) for event in events] == [ADDED, MODIFIED, MODIFIED, MODIFIED, DELETED]
    assert [event.seen_through(chosen) for event in events] == [None, ADDED, MODIFIED, DELETED, None]


def test_a_watch_goes_on_where_a_list_ended():
    store = Store()
    store.write(KEY, thing("a"))
    revision = store.revision
    store.write(KEY, thing("b"))
    late = store.subscribe(KEY, revision)
    store.write(KEY, thing("c"))
    assert [event.stored.name[1] for event in late.drain()] == ["b", "c"]


def test_old_and_future_revisions_are_gone():
    store = Store()
    store.write(KEY, thing())
    first = store.revision
    for _ in range(EVENTS_KEPT + 1):
        store.write(KEY, thing())
    for revision in (first - 1, first, store.revision + 1):
        with pytest.raises(ApiError) as caught:
            store.subscribe(KEY, revision)
        assert caught.value.code == 410
    assert len(store.subscribe(KEY, first + 1).drain()) == EVENTS_KEPT


def test_compaction_forgets_the_past():
    store = Store()
    before = store.revision
    store.write(KEY, thing())
    store.compact()
    with pytest.raises(ApiError):
        store.subscribe(KEY, before)
    with pytest.raises(ApiError):
        store.subscribe(("", "never seen"), before)
    assert store.subscribe(KEY, store.revision).drain() == []


def test_states_are_encoded_once_and_in_the_version_asked_for():
    store = Store()
    stored = store.write(KEY, thing())
    assert stored.json is stored.json_as("v1")
    assert b'"apiVersion":"v2"' in stored.json_as("v2")
    copied = stored.copy()
    copied["metadata"]["name"] = "other"
    assert stored.name == ("n", "x")
