"""Network policies taken away through the Kubernetes API for a moment, and put back whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from analysis.facts import PolicyObject
from analysis.fleet import ClusterHandle, Fleet
from provision.outages import OutageError
from provision.outages.api import Api, connected
from provision.outages.journal import journal_of

_MADE_BY_THE_SERVER = ("creationTimestamp", "deletionTimestamp", "generation", "resourceVersion", "selfLink", "uid")


@dataclass(frozen=True)
class Policy:
    """A policy that was deleted is there again, as it was.

    Attributes:
        collection: the path of its kind's objects.
        document: the object as JSON text.
    """

    kind: ClassVar[str] = "policy"

    region: str
    kubeconfig: str
    context: str
    collection: str
    name: str
    document: str

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"{self.collection}/{self.name}"

    def apply(self) -> str:
        """Create it, unless somebody has done so meanwhile. Raises OutageError."""
        what = f"{self.region}: policy {self.name}"
        with connected(ClusterHandle(self.region, self.kubeconfig, self.context)) as api:
            if is_there(api, self):
                return f"{what} is there"
            api.post(self.collection, json.loads(self.document))
            if not is_there(api, self):
                raise OutageError("a policy that was put back is not there", where=what)
        return f"{what} put back"


def is_there(api: Api, policy: Policy) -> bool:
    """Whether the API lists it. Raises OutageError."""
    listed = api.get(policy.collection).get("items") or ()
    return any(item["metadata"]["name"] == policy.name for item in listed)


def policy_remedy(fleet: Fleet, one: PolicyObject, collection: str) -> Policy:
    """What puts that policy back."""
    handle = fleet.cluster(one.region)
    document = json.loads(one.document)
    metadata = {key: value for key, value in document["metadata"].items() if key not in _MADE_BY_THE_SERVER}
    return Policy(
        one.region,
        handle.kubeconfig,
        handle.context,
        collection,
        one.name,
        json.dumps({**document, "metadata": metadata}),
    )


@contextmanager
def policies_away(fleet: Fleet, policies: Sequence[Policy]) -> Iterator[None]:
    """While this lasts, none of these policies is there. They are written down before, and put back afterwards.

    Raises:
        OutageError: they could not be taken away, or not all be put back; those stay in the journal.
    """
    journal = journal_of(fleet)
    journal.heal()
    regions = ", ".join(dict.fromkeys(policy.region for policy in policies))
    try:
        journal.write(fleet.plan.name, f"policies of the database in {regions} taken away", tuple(policies))
        for policy in policies:
            with connected(fleet.cluster(policy.region)) as api:
                api.delete(policy.path)
        yield
    finally:
        journal.heal()
