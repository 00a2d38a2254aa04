"""Faults of what a cluster holds of the database: images, volumes, room, budgets, namespaces, bindings.

None of them stops the database: that is why nobody notices them before the day on which it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Control, Create, Delete, Fault, FaultError, Patch
from provision.lab.faults.database import database_fault
from provision.lab.faults.steps import Edited, object_is_gone, object_is_there, object_says
from provision.lab.kube.objects import DEFAULT_CLASS
from provision.lab.manifests import STORAGE_CLASS
from provision.lab.seed import PAUSE_IMAGE
from provision.lab.topology import LabRegion, LabTopology

PODS = "/api/v1/namespaces/default/pods"


def formation_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """All of them."""
    first, second, *_ = lab.regions
    plan = lab.plan.database or DatabasePlan()
    return (
        another_image(plan, second),
        no_default_class(first),
        two_on_a_node(plan, second),
        no_room(second),
        no_budget(plan, first),
        budget_for_nobody(plan, second),
        namespace_of_another_region(plan, first, second),
        binding_of_another_namespace(plan, second),
    )


def another_image(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The next pod of one region will run another version."""
    path = f"/apis/apps/v1/namespaces/{plan.namespace(region.name)}/statefulsets/{plan.service}"

    def newer(stateful_set: dict[str, Any]) -> dict[str, Any]:
        container = stateful_set["spec"]["template"]["spec"]["containers"][0]
        changed = container | {"image": f"{container['image']}-rc.1"}
        return {"spec": {"updateStrategy": {"type": "OnDelete"}, "template": {"spec": {"containers": [changed]}}}}

    return database_fault(
        "database-another-image",
        f"the StatefulSet of {region.name} names another image than those of the other regions",
        "DB-FORM-009",
        Edited(region.name, path, newer),
        confirm=object_says(region.name, path, ("spec", "updateStrategy", "type"), "OnDelete"),
    )


def no_default_class(region: LabRegion) -> Fault:
    """Volumes that name no class would never be bound."""
    path = f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}"
    patch = {"metadata": {"annotations": {DEFAULT_CLASS: "false"}}}
    return database_fault(
        "database-no-default-class",
        f"{region.name} has no default StorageClass",
        "DB-FORM-016",
        Patch(region.name, path, patch),
        confirm=object_says(region.name, path, ("metadata", "annotations", DEFAULT_CLASS), "false"),
    )


@dataclass(frozen=True)
class PodBeside:
    """A pod of the database on the node of another one, from its image; it waits there, and is part of no Service.

    Attributes:
        pods: path of the namespace's pods.
        standing: name of the pod that is there.
        name: of the new one.
    """

    region: str
    pods: str
    standing: str
    name: str

    def apply(self, control: Control) -> None:
        """Make it."""
        standing = control.get(self.region, f"{self.pods}/{self.standing}")
        if standing is None:
            raise FaultError(f"{self.region}: there is no pod {self.standing} to put another beside")
        image = standing["spec"]["containers"][0]["image"]
        container = {"name": "cockroachdb", "image": image, "command": ["sleep", "infinity"]}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": standing["metadata"]["namespace"]},
            "spec": {
                "nodeName": standing["spec"]["nodeName"],
                "containers": [container],
                "terminationGracePeriodSeconds": 0,
            },
        }
        control.create(self.region, self.pods, manifest)

    def heal(self, control: Control, memory: None) -> None:
        """Remove it."""
        control.delete(self.region, f"{self.pods}/{self.name}")


def two_on_a_node(plan: DatabasePlan, region: LabRegion) -> Fault:
    """A second pod of one region was put on the node of the first."""
    pods = f"/api/v1/namespaces/{plan.namespace(region.name)}/pods"
    name = f"{plan.service}-{plan.replicas}"
    return database_fault(
        "database-two-on-a-node",
        f"two database pods of {region.name} are on the same node",
        "DB-FORM-015",
        PodBeside(region.name, pods, f"{plan.service}-0", name),
        confirm=object_is_there(region.name, f"{pods}/{name}"),
        follows=frozenset({"DB-FORM-020"}),
        layer=Layer.HYGIENE,
    )


def no_room(region: LabRegion) -> Fault:
    """Other pods have taken all room of a region: a database pod that ends finds none."""
    hogs = [_hog(node.name) for node in region.nodes]
    return database_fault(
        "database-no-room",
        f"pods on every node of {region.name} request more than the nodes have",
        "DB-FORM-017",
        *(Create(region.name, PODS, hog) for hog in hogs),
        confirm=lambda control: all(
            (control.get(region.name, f"{PODS}/{hog['metadata']['name']}") or {}).get("status", {}).get("phase")
            == "Running"
            for hog in hogs
        ),
    )


def _hog(node: str) -> dict[str, Any]:
    """A pod that does nothing, and requests a great deal."""
    container = {"name": "hog", "image": PAUSE_IMAGE, "resources": {"requests": {"cpu": "1000"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"hog-{node}", "namespace": "default"},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
    }


def no_budget(plan: DatabasePlan, region: LabRegion) -> Fault:
    """All database pods of a region may be evicted at once."""
    path = _budget(plan, region)
    return database_fault(
        "database-no-budget",
        f"the database of {region.name} has no disruption budget",
        "DB-FORM-020",
        Delete(region.name, path),
        confirm=object_is_gone(region.name, path),
        layer=Layer.HYGIENE,
    )


def budget_for_nobody(plan: DatabasePlan, region: LabRegion) -> Fault:
    """A label was changed, and the budget's selector was not."""
    path, keys = _budget(plan, region), ("spec", "selector", "matchLabels", "app")
    patch = {"spec": {"selector": {"matchLabels": {"app": "cockroach"}}}}
    return database_fault(
        "database-budget-for-nobody",
        f"the disruption budget of {region.name} selects no pod of the database",
        "DB-FORM-020",
        Patch(region.name, path, patch),
        confirm=object_says(region.name, path, keys, "cockroach"),
        layer=Layer.HYGIENE,
    )


def namespace_of_another_region(plan: DatabasePlan, region: LabRegion, other: LabRegion) -> Fault:
    """Manifests of one region were applied in another one's cluster."""
    name = plan.namespace(other.name)
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    return database_fault(
        "database-namespace-elsewhere",
        f"the namespace {name} exists in the cluster of {region.name}, too",
        "DB-FORM-021",
        Create(region.name, "/api/v1/namespaces", manifest),
        confirm=object_is_there(region.name, f"/api/v1/namespaces/{name}"),
    )


def binding_of_another_namespace(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The published manifests were applied as they are: their bindings mean the namespace "default"."""
    namespace, account = plan.namespace(region.name), plan.service_account
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{account}"
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": "default"}]
    return database_fault(
        "database-binding-elsewhere",
        f"the RoleBinding of the database in {region.name} names the namespace default",
        "DB-FORM-023",
        Patch(region.name, path, {"subjects": subjects}),
        confirm=object_says(region.name, path, ("subjects",), subjects),
        layer=Layer.HYGIENE,
    )


def _budget(plan: DatabasePlan, region: LabRegion) -> str:
    return f"/apis/policy/v1/namespaces/{plan.namespace(region.name)}/poddisruptionbudgets/{plan.service}-budget"
