"""The three patch formats, as a Kubernetes API server applies them."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.patches import json_patch, merge_patch, strategic_merge_patch

JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("current", "patch", "result"),
    [  # the examples of RFC 7386
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(current, patch, result):
    assert merge_patch(current, patch) == result


@pytest.mark.parametrize("apply", [merge_patch, strategic_merge_patch])
@given(current=JSON, patch=JSON)
def test_patches_leave_their_arguments_alone_and_settle(apply, current, patch):
    before = copy.deepcopy((current, patch))
    once = apply(current, patch)
    assert (current, patch) == before
    if not isinstance(patch, dict) or "$" not in str(patch):
        assert apply(once, patch) == once


def pod(*containers: dict, **spec) -> dict:
    return {"spec": {"containers": list(containers)} | spec}


@pytest.mark.parametrize(
    ("current", "patch", "result"),
    [
        pytest.param(
            pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"}),
            pod({"name": "b", "image": "2"}, {"name": "c", "image": "1"}),
            pod({"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "1"}),
            id="containers join by name",
        ),
        pytest.param(
            pod({"name": "a"}, {"name": "b"}),
            pod({"name": "a", "$patch": "delete"}),
            pod({"name": "b"}),
            id="an element can be deleted",
        ),
        pytest.param(
            pod({"name": "a"}, {"name": "b"}),
            pod({"$patch": "replace"}, {"name": "c"}),
            pod({"name": "c"}),
            id="a list can be replaced",
        ),
        pytest.param(
            pod({"name": "a"}, {"name": "b"}),
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a"}]}},
            pod({"name": "b"}, {"name": "a"}),
            id="the order can be set",
        ),
        pytest.param(
            pod({"name": "a", "ports": [{"containerPort": 1, "name": "x"}]}),
            pod({"name": "a", "ports": [{"containerPort": 1, "protocol": "UDP"}, {"containerPort": 2}]}),
            pod({"name": "a", "ports": [{"containerPort": 1, "name": "x", "protocol": "UDP"}, {"containerPort": 2}]}),
            id="container ports join by containerPort",
        ),
        pytest.param(
            {"spec": {"ports": [{"port": 80, "name": "a"}]}},
            {"spec": {"ports": [{"port": 80, "targetPort": 1}]}},
            {"spec": {"ports": [{"port": 80, "name": "a", "targetPort": 1}]}},
            id="service ports join by port",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}]},
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80}]},
            id="ports of an EndpointSlice are one value",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}},
            {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}]}},
            {
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "True", "reason": "x"},
                        {"type": "Other", "status": "True"},
                    ]
                }
            },
            id="conditions join by type",
        ),
        pytest.param(
            pod({"name": "a"}, tolerations=[{"key": "x"}]),
            {"spec": {"tolerations": [{"key": "y"}]}},
            pod({"name": "a"}, tolerations=[{"key": "y"}]),
            id="tolerations are one value",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b", "a"]}},
            {"metadata": {"finalizers": ["a", "b"]}},
            id="finalizers are a set",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b"]}},
            id="values of a set can be deleted",
        ),
        pytest.param(
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}},
            {"strategy": {"type": "Recreate"}},
            id="other members can be dropped",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "2"}}},
            {"metadata": {"labels": {"a": None}}},
            {"metadata": {"labels": {"b": "2"}}},
            id="null removes",
        ),
        pytest.param({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}, id="a map is replaced"),
    ],
)
def test_strategic_merge_patch(current, patch, result):
    before = copy.deepcopy(current)
    assert strategic_merge_patch(current, patch) == result
    assert current == before


def test_strategic_merge_needs_the_key():
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(pod({"name": "a"}), pod({"image": "2"}))
    assert caught.value.code == 400
    assert "merge key: name" in caught.value.message


@pytest.mark.parametrize(
    ("current", "operations", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": [1, 2]}, [{"op": "replace", "path": "/a/1", "value": 5}], {"a": [1, 5]}),
        ({"a/b": 1, "c~d": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/c~0d"}], {}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}], {}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch(current, operations, result):
    before = copy.deepcopy(current)
    assert json_patch(current, operations) == result
    assert current == before


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"op": "remove", "path": "/nope"}], 422),
        ([{"op": "replace", "path": "/nope", "value": 1}], 422),
        ([{"op": "add", "path": "/nope/deeper", "value": 1}], 422),
        ([{"op": "add", "path": "/list/7", "value": 1}], 422),
        ([{"op": "remove", "path": "/list/-1"}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "add", "path": "/b"}], 422),
        ([{"op": "add", "path": "b", "value": 1}], 422),
        ([{"op": "twist", "path": "/a"}], 400),
        ({"op": "remove", "path": "/a"}, 400),
        (["remove"], 400),
    ],
)
def test_json_patch_that_does_not_apply(operations, code):
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1, "list": [1]}, operations)
    assert caught.value.code == code
