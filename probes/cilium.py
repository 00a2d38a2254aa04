"""How Cilium is asked: its agents through `cilium-dbg` in their pods, many questions in one exec, and its objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from analysis.cilium import CiliumParseError
from analysis.facts import Gap
from probes.cluster import Cluster, KubeObject
from probes.errors import ExecFailed, PodGone, ProbeError
from probes.mesh import Mesh
from probes.permissions import CILIUM_GROUP, CILIUM_NAMESPACE

AGENT_SELECTOR = "k8s-app=cilium"
CONTAINER = "cilium-agent"
WITHIN = timedelta(seconds=30)

T = TypeVar("T")

_PRELUDE = r"""
cilium=$(command -v cilium-dbg || command -v cilium) || { echo 'neither cilium-dbg nor cilium is there' >&2; exit 127; }
ask() {
  name=$1; shift
  printf '\036%s\n' "$name"
  { said=$("$@" 2>&1 1>&3); code=$?; } 3>&1
  printf '\n\036=%s %s\n' "$code" "$said"
}
"""
"""`ask NAME COMMAND...` runs a command and frames its output, its exit status and what it said on standard error. The
tool is called `cilium-dbg` from 1.15 on. A question's command begins with `"$cilium"`."""

_ANSWER = re.compile(r"\x1e([^\n=][^\n]*)\n(.*?)\n\x1e=(\d+) ?(.*?)(?=\n\x1e|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        exit_code: its exit status.
        text: its standard output.
        error: its standard error.
    """

    exit_code: int
    text: str
    error: str

    @property
    def words(self) -> str:
        """What it said in one line, for a person: the end of its complaint, or of its output."""
        return " ".join((self.error or self.text)[-300:].split()) or f"ended with {self.exit_code}"

    def read(self, parse: Callable[[str], T]) -> T:
        """The parsed output.

        Raises:
            ExecFailed: the command failed, or said something that is not understood.
        """
        if self.exit_code:
            raise ExecFailed(f"ended with {self.exit_code}: {self.words}")
        try:
            return parse(self.text)
        except CiliumParseError as error:
            raise ExecFailed(str(error)) from error


@dataclass(frozen=True)
class AgentPod:
    """The cilium pod of a node."""

    region: str
    node: str
    pod: KubeObject


def cilium_pods(cluster: Cluster) -> list[KubeObject]:
    """The agents' pods that run. Raises ApiError."""
    return [
        pod
        for pod in cluster.items("/api/v1/pods", labelSelector=AGENT_SELECTOR)
        if pod["metadata"]["namespace"] == CILIUM_NAMESPACE
        and pod.get("status", {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
    ]


def agents_of(cluster: Cluster) -> list[AgentPod]:
    """The agents of a cluster. Raises ApiError."""
    return [AgentPod(cluster.region, pod["spec"]["nodeName"], pod) for pod in cilium_pods(cluster)]


def agent_on(cluster: Cluster, node: str) -> AgentPod:
    """The agent of a node. Raises ProbeError: there is none, or it cannot be looked for."""
    found = next((agent for agent in agents_of(cluster) if agent.node == node), None)
    if found is None:
        raise PodGone(f"{cluster.region}: no cilium pod runs on node {node}")
    return found


def all_agents(mesh: Mesh, what: str) -> tuple[list[AgentPod], list[Gap]]:
    """The agents' pods of all regions; where there are none, `what` could not be had."""
    pods: list[AgentPod] = []
    gaps: list[Gap] = []
    for region, found in mesh.each_region(agents_of):
        if isinstance(found, ProbeError):
            gaps.append(Gap(region, what, str(found)))
        elif not found:
            gaps.append(Gap(region, what, "no cilium pod runs there"))
        else:
            pods += found
    return pods, gaps


def cilium_objects(cluster: Cluster, plural: str) -> list[KubeObject]:
    """All objects of a kind of Cilium's. Raises ApiError."""
    return cluster.items(f"/apis/{CILIUM_GROUP}/v2/{plural}")


def config_map(cluster: Cluster, name: str) -> dict[str, str]:
    """The content of a ConfigMap of kube-system. Raises ApiError."""
    return cluster.get(f"/api/v1/namespaces/{CILIUM_NAMESPACE}/configmaps/{name}").get("data") or {}


def ask_agent(
    cluster: Cluster, agent: AgentPod, questions: Mapping[str, str], within: timedelta = WITHIN
) -> dict[str, Answer]:
    """Ask a cilium pod several things in one exec.

    Args:
        cluster: where it is.
        agent: the pod.
        questions: shell commands by name; nothing in them comes from outside unquoted.
        within: for all of them together.

    Raises:
        ProbeError: the pod could not be asked, or has no such tool.
    """
    script = _PRELUDE + "".join(f"ask {name} {command}\n" for name, command in questions.items())
    metadata = agent.pod["metadata"]
    completed = cluster.exec(
        metadata["namespace"], metadata["name"], ["/bin/sh", "-c", script], within=within, container=CONTAINER
    )
    answers = read_answers(completed.stdout.decode("utf-8", "replace"))
    if missing := questions.keys() - answers.keys():
        said = completed.stderr[-300:].decode("utf-8", "replace").strip()
        raise ExecFailed(
            f"{cluster.region}/{metadata['name']}: no answer to {', '.join(sorted(missing))}, "
            f"the shell ended with {completed.exit_code}: {said or 'it said nothing'}"
        )
    return answers


def read_answers(told: str) -> dict[str, Answer]:
    """The answers of one exec, by the names of the questions."""
    return {name: Answer(int(code), text, error.strip()) for name, text, code, error in _ANSWER.findall(told)}


def ask_agents(
    mesh: Mesh, agents: list[AgentPod], questions: Mapping[str, str]
) -> list[tuple[AgentPod, dict[str, Answer] | ProbeError]]:
    """Ask all these pods the same things, one exec each."""
    return mesh.each(agents, lambda agent: agent.region, lambda cluster, agent: ask_agent(cluster, agent, questions))
