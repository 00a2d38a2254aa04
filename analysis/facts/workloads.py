"""What Kubernetes holds of the database: its workloads, volumes, budgets and bindings."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class StatefulSet:
    """The StatefulSet that the database runs as.

    Attributes:
        wanted: pods that it is to have.
        ready: pods that are Ready.
        image: of its database container.
        command: command and arguments of that container, as one list of words; a shell script is one word.
        service: name of its headless Service.
        grace: time that its pods have to end (s).
        storage: what each volume claim of its asks for, by claim name (bytes).
    """

    region: str
    namespace: str
    name: str
    wanted: int
    ready: int
    image: str
    command: tuple[str, ...]
    service: str
    grace: float
    storage: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class DatabasePod:
    """A pod of the database. `cpu` is what it requests in thousandths of a processor, `memory` in bytes; None for none.

    Attributes:
        uid: of the pod object: another one means that the pod was made anew.
        started: when its database container began to run (RFC 3339), "" when it does not run.
        restarts: of its database container.
    """

    region: str
    namespace: str
    name: str
    uid: str
    node: str
    phase: str
    ready: bool
    restarts: int
    image: str
    started: str = ""
    cpu: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class VolumeClaim:
    """A PersistentVolumeClaim of a database pod. `size` is what is bound (bytes), None when nothing is."""

    region: str
    namespace: str
    name: str
    phase: str
    wanted: int | None
    size: int | None
    storage_class: str


@dataclass(frozen=True)
class StorageClass:
    """A StorageClass of a cluster."""

    region: str
    name: str
    default: bool


@dataclass(frozen=True)
class DisruptionBudget:
    """A PodDisruptionBudget in the database's namespace.

    Attributes:
        max_unavailable: as it is written ("1", "10%"), "" when it says none.
        min_available: likewise.
        covers: names of the database pods that its selector picks.
    """

    region: str
    namespace: str
    name: str
    max_unavailable: str
    min_available: str
    covers: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """Whom a binding gives rights: kind, namespace ("" for users and groups) and name."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Binding:
    """A RoleBinding in the database's namespace, or a ClusterRoleBinding of its service account (`namespace` "")."""

    region: str
    namespace: str
    name: str
    role: str
    subjects: tuple[Subject, ...]


@dataclass(frozen=True)
class NodeRoom:
    """What a node can give to pods, and what pods other than the database's already ask of it.

    Attributes:
        cpu: allocatable, in thousandths of a processor.
        memory: allocatable, in bytes.
        cpu_taken: requested by pods other than the database's.
        memory_taken: likewise.
    """

    region: str
    node: str
    cpu: int
    memory: int
    cpu_taken: int = 0
    memory_taken: int = 0


@dataclass(frozen=True)
class Workloads:
    """Everything about the database that the clusters' APIs tell.

    Attributes:
        namespaces: (region, namespace) of every namespace of every cluster that bears the name of a database namespace.
        service_account: (region, name) of the account that the database's pods run as.
    """

    stateful_sets: tuple[StatefulSet, ...] = ()
    pods: tuple[DatabasePod, ...] = ()
    claims: tuple[VolumeClaim, ...] = ()
    storage_classes: tuple[StorageClass, ...] = ()
    budgets: tuple[DisruptionBudget, ...] = ()
    bindings: tuple[Binding, ...] = ()
    rooms: tuple[NodeRoom, ...] = ()
    namespaces: tuple[tuple[str, str], ...] = ()
    service_accounts: tuple[tuple[str, str], ...] = ()
    gaps: tuple[Gap, ...] = ()
