"""Workloads that run a part of the CNI: how many replicas there should be and are, and their version."""

from __future__ import annotations

from http import HTTPStatus

from analysis.facts import Component
from analysis.images import image_tag
from probes.cluster import Cluster, KubeObject
from probes.errors import ApiError


def observe_workload(cluster: Cluster, namespace: str, plural: str, name: str) -> Component:
    """A DaemonSet or Deployment; one that is not there has no replicas, wanted or ready. Raises ApiError."""
    try:
        found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/{plural}/{name}")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return Component(cluster.region, name, False, 0, 0, message=f"{plural[:-1]} {namespace}/{name} is not there")
    return read_workload(cluster.region, plural, found)


def read_workload(region: str, plural: str, found: KubeObject) -> Component:
    """A DaemonSet or Deployment object; its version is in the tag of the image of the container it is named after."""
    name, spec, status = found["metadata"]["name"], found["spec"], found.get("status") or {}
    if plural == "daemonsets":
        wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    containers = spec["template"]["spec"]["containers"]
    main = next((each for each in containers if name in (each["name"], _image_name(each["image"]))), containers[0])
    return Component(region, name, None, wanted, ready, image_tag(main["image"]))


def _image_name(image: str) -> str:
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]
