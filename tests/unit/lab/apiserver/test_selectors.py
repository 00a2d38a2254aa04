"""Label and field selectors choose what Kubernetes would."""

from __future__ import annotations

import pytest

from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.resources import PODS
from provision.lab.kube.apiserver.selectors import FieldSelector, LabelSelector, Selection

DB = {"app": "db", "tier": "1", "example.com/zone": "a"}


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("app=db", DB, True),
        ("app = db , tier == 1", DB, True),
        ("app=web", DB, False),
        ("app!=web", DB, True),
        ("app!=web", {}, True),
        ("app=", {"app": ""}, True),
        ("app=", {}, False),
        ("app", DB, True),
        ("app", {}, False),
        ("!app", DB, False),
        ("!app", {}, True),
        ("app in (web,db)", DB, True),
        ("app in (web)", {}, False),
        ("app notin (web,db)", DB, False),
        ("app notin (web)", {}, True),
        ("example.com/zone=a,app in (db),!gone", DB, True),
    ],
)
def test_label_selector(text, labels, matches):
    assert LabelSelector.parse(text).matches(labels) is matches


@pytest.mark.parametrize("text", ["a b", "a=b=c", "in (a)", "a in a,b", "a in (b", "=b", "!a=b", "a>1"])
def test_label_selector_that_is_none(text):
    with pytest.raises(ApiError) as caught:
        LabelSelector.parse(text)
    assert caught.value.code == 400
    assert text in caught.value.message


POD = {"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "x", "hostNetwork": True}, "status": {}}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("spec.nodeName=x", True),
        ("spec.nodeName!=x", False),
        ("spec.nodeName==x,metadata.name=p", True),
        ("status.phase=", True),
        ("status.phase=Running", False),
        ("spec.hostNetwork=true", True),
        ("", True),
    ],
)
def test_field_selector(text, matches):
    selector = FieldSelector.parse(text).limited_to(PODS.selectable_fields)
    assert selector.matches(POD) is matches


def test_only_known_fields_select():
    with pytest.raises(ApiError, match=r"field label not supported: spec\.priority"):
        FieldSelector.parse("spec.priority=1").limited_to(PODS.selectable_fields)


def test_selector_of_a_single_name_is_recognised():
    assert FieldSelector.parse("spec.nodeName=x,metadata.name=p").name == "p"
    assert FieldSelector.parse("metadata.name!=p").name == ""


def test_selection_keeps_to_its_namespace():
    assert Selection(namespace="n").matches(POD)
    assert not Selection(namespace="other").matches(POD)
    assert Selection().matches(POD)
