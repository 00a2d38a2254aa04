"""Orders to the kernel inside a network namespace, by way of `ip`, `bridge`, `tc` and `nft`.

One process takes a whole batch, which costs less than a netlink library's import. All functions block: asyncio code
calls them in a thread.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from provision.lab import netns


class KernelError(Exception):
    """The kernel refused an order; the text names the namespace, the command and the kernel's answer."""


def ip(namespace: str, commands: Iterable[str]) -> None:
    """Run `ip` commands in order, up to the first that fails.

    Raises:
        KernelError: a command failed.
    """
    _batch("ip", namespace, commands)


def bridge(namespace: str, commands: Iterable[str]) -> None:
    """Run `bridge` commands in order, up to the first that fails.

    Raises:
        KernelError: a command failed.
    """
    _batch("bridge", namespace, commands)


def tc(namespace: str, commands: Iterable[str]) -> None:
    """Run `tc` commands in order, up to the first that fails.

    Raises:
        KernelError: a command failed.
    """
    _batch("tc", namespace, commands)


def forget(program: str, namespace: str, commands: Iterable[str]) -> None:
    """Run deletions, by `ip` or `bridge`: what has gone already, with its device or by hand, is no error."""
    subprocess.run(
        [program, "-n", namespace, "-force", "-batch", "-"], input=_script(commands), capture_output=True, text=True
    )


def load_rules(namespace: str, table: str, rules: str) -> None:
    """Put a packet filter table in the place of the one of that name, in one transaction.

    Args:
        namespace: where.
        table: family and name ("ip calico").
        rules: the whole table as `nft` reads it.

    Raises:
        KernelError: a rule is wrong, or the kernel does not support it.
    """
    load_tables(namespace, {table: rules})


def load_tables(namespace: str, tables: Mapping[str, str]) -> None:
    """The same for several tables at once, by family and name.

    Raises:
        KernelError: a rule is wrong, or the kernel does not support it.
    """
    # Naming a table first makes the deletion valid when there is none yet.
    script = "".join(f"table {table}\ndelete table {table}\n{rules}" for table, rules in tables.items())
    done = _nft(namespace, "-f", "-", script=script)
    if done.returncode:
        raise KernelError(f"in {namespace}: table {', '.join(tables)} was refused: {' '.join(done.stderr.split())}")


def has_table(namespace: str, table: str) -> bool:
    """Whether there is a packet filter table of that family and name."""
    try:
        return _nft(namespace, "list", "table", *table.split()).returncode == 0
    except KernelError:
        return False


def _nft(namespace: str, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    """Run `nft`, which has no option for a namespace: this thread goes there, which is cheaper than `nsenter`.

    Raises:
        KernelError: there is no such namespace.
    """
    try:
        with netns.inside(namespace):
            return subprocess.run(["nft", *arguments], input=script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise KernelError(f"in {namespace}: nft {' '.join(arguments)} was not run: {error}") from error


def _batch(program: str, namespace: str, commands: Iterable[str]) -> None:
    orders = tuple(commands)
    if not orders:
        return
    argv = [program, "-n", namespace, "-batch", "-"]
    done = subprocess.run(argv, input=_script(orders), capture_output=True, text=True)
    if done.returncode:
        raise KernelError(f"in {namespace}: {_failure(program, orders, done.stderr)}")


def _script(commands: Iterable[str]) -> str:
    return "".join(f"{command}\n" for command in commands)


def _failure(program: str, orders: Sequence[str], answer: str) -> str:
    # After the kernel's answer comes "Command failed -:7": line 7 of the standard input.
    failed = re.search(r"^Command failed -:(\d+)", answer, re.MULTILINE)
    order = f"{program} {orders[int(failed[1]) - 1]}" if failed else f"{program} -batch"
    reason = " ".join(line for line in answer.splitlines() if not line.startswith("Command failed"))
    return f"`{order}` failed: {reason or 'no reason given'}"
