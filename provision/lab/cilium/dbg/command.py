"""Which answer a command line of `cilium-dbg`, `cilium` or `cilium-health` gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from provision.lab.cilium.api import Question, Reply, failure
from provision.lab.cilium.dbg import health, lists, policy, status
from provision.lab.cilium.dbg.agent import Agent
from provision.lab.cilium.dbg.commandline import CommandLine, parse
from provision.lab.cilium.dbg.forms import table, to_json
from provision.lab.cilium.dbg.kvstore import kvstore
from provision.lab.cilium.dbg.status import StatusOptions
from provision.lab.cilium.state import AgentState
from provision.lab.kernel import KernelError

_Form = Callable[[AgentState], str]

_LISTS: Mapping[tuple[str, ...], tuple[_Form, _Form]] = {
    ("node", "list"): (lists.nodes_text, lists.nodes_json),
    ("bpf", "tunnel", "list"): (lists.tunnels_text, lists.tunnels_json),
    ("bpf", "ipcache", "list"): (lists.ipcache_text, lists.ipcache_json),
    ("identity", "list"): (lists.identities_text, lists.identities_json),
    ("endpoint", "list"): (lists.endpoints_text, lists.endpoints_json),
    ("policy", "get"): (policy.policies_text, policy.policies_json),
    ("service", "list"): (lists.services_text, lists.services_json),
}
"""What is printed from the agent's state alone, as text and as JSON."""

TUNNEL_MAP_GONE = (1, 18)
TROUBLESHOOT_SINCE = (1, 16)
RENAMED_SINCE = (1, 15)


async def answer(question: Question, agent: Agent) -> Reply:
    """The answer to a command line.

    Before 1.15 the program is called `cilium` only; later, `cilium` is another name of `cilium-dbg`.
    """
    program, *arguments = question.argv
    command = parse(arguments)
    if program == "cilium-dbg" and _minor(agent) < RENAMED_SINCE:
        return failure(f"sh: {program}: not found", 127)
    if command.output not in ("", "json"):
        return failure(f"Error: output format {command.output!r} is not known to the lab's {program}; use json")
    if program == "cilium-health":
        return await _health(command, agent)
    root = Path(f"/proc/{question.pid}/root")
    match command.words:
        case ["status"]:
            if command.output != "json":  # which has no word on other nodes' health
                await agent.probe()
            return render_status(await agent.state(), command, datetime.now(UTC))
        case ["version"]:
            return render_version(agent.version, command)
        case ["config"]:
            return render_config(await agent.state(), command)
        case ["kvstore", *_]:
            return await kvstore(command, root, agent)
        case ["troubleshoot", "clustermesh", *names] if _minor(agent) >= TROUBLESHOOT_SINCE:
            # Reading certificates takes a library whose import, of 0.1 s, no agent's start should wait for.
            from provision.lab.cilium.dbg.troubleshoot import troubleshoot

            return await troubleshoot(names, (await agent.state()).cluster, root, agent)
    try:
        state = await agent.state(maps=command.words[:1] == ("bpf",))
    except KernelError as error:
        return failure(f"Error: the maps cannot be read: {error}")
    return render_list(state, command, program)


def render_list(state: AgentState, command: CommandLine, program: str = "cilium-dbg") -> Reply:
    """A list out of the agent's state, or the error of a command that there is none of in this version."""
    forms = _LISTS.get(command.words)
    if forms is None or (command.words == ("bpf", "tunnel", "list") and state.minor >= TUNNEL_MAP_GONE):
        parent = " ".join([program, *command.words[:-1][:1]])
        return failure(f'Error: unknown command "{" ".join(command.words[1:] or command.words)}" for "{parent}"')
    as_text, as_json = forms
    return Reply(as_json(state) if command.output == "json" else as_text(state))


def render_status(state: AgentState, command: CommandLine, now: datetime) -> Reply:
    """`status`: the exit code tells of a failure in the text forms only."""
    if command.output == "json":
        return Reply(status.status_json(state))
    code = 0 if status.agent_state(state)[0] in (status.OK, status.DISABLED) else 1
    if command.has("brief"):
        return Reply(status.brief_text(state), code=code)
    everything = command.has("verbose")
    options = StatusOptions(
        all_addresses=everything or command.has("all-addresses"),
        all_clusters=everything or command.has("all-clusters"),
        all_controllers=everything or command.has("all-controllers"),
        all_health=everything or command.has("all-health"),
    )
    return Reply(status.status_text(state, options, now), code=code)


def render_version(version: str, command: CommandLine) -> Reply:
    """`version`: of the program and of the agent, which are of one image."""
    build = {"Version": version, "Revision": "", "GoRuntimeVersion": "", "Arch": "", "AuthorDate": ""}
    if command.output == "json":
        return Reply(to_json({"Client": build, "Daemon": build}))
    return Reply(f"Client: {version}\nDaemon: {version}\n")


def render_config(state: AgentState, command: CommandLine) -> Reply:
    """`config`: the settings that the agent has started with."""
    if command.output == "json":
        return Reply(to_json(state.settings))
    rows = [[name, value] for name, value in sorted(state.settings.items())]
    return Reply("#### Read-only configurations ####\n" + table(rows))


async def _health(command: CommandLine, agent: Agent) -> Reply:
    if command.words != ("status",):
        return failure(f'Error: unknown command "{" ".join(command.words)}" for "cilium-health"')
    await agent.probe()
    report = (await agent.state()).health
    if report is None:
        return failure("Error: Cannot get status: no probe has been made")
    if command.output == "json":
        return Reply(health.health_json(report))
    return Reply(health.health_text(report, datetime.now(UTC)))


def _minor(agent: Agent) -> tuple[int, int]:
    major, minor = agent.version.split(".")[:2]
    return int(major), int(minor)
