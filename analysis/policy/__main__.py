"""`python -m analysis.policy lint FILES...`: what is wrong with policy manifests, before they are applied."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from analysis.policy.lint.findings import Finding, Level
from analysis.policy.lint.inventory import InventoryError, PodInventory, read_inventory
from analysis.policy.lint.manifests import Manifest, read_manifests
from analysis.policy.lint.report import COLOURED, PLAIN, as_json, as_sarif, as_text
from analysis.policy.lint.run import Linted, lint

CLEAN, COMPLAINTS, USAGE = range(3)
_STANDARD_INPUT = "-"
_SUFFIXES = (".yaml", ".yml", ".json")


class _UsageError(Exception):
    """The command was called in a way that cannot work; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Lints, prints, and returns the exit code: 0 nothing to complain about, 1 errors or warnings, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        inventory = _inventory(options.endpoints) if options.endpoints else None
        linted = lint(_manifests(options.files), inventory)
    except _UsageError as error:
        print(f"policy lint: {error}", file=sys.stderr)
        return USAGE
    print(_told(linted, options.format, sys.stdout), end="")
    return COMPLAINTS if linted.count(Level.ERROR) or linted.count(Level.WARNING) else CLEAN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.policy", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="lint")
    command = commands.add_parser(
        "lint",
        help="say what is wrong with manifests",
        description="Says what is wrong with manifests of Calico, Cilium and Kubernetes network policy: fields that do "
        "not exist, what the API refuses, rules that can never match, and what the policies then come to.",
        epilog="exit code: 0 nothing to complain about, 1 errors or warnings, 2 wrong usage",
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON, a folder of them, or - for standard input"
    )
    command.add_argument(
        "--format", choices=("text", "json", "sarif"), default="text", help="text unless said otherwise"
    )
    command.add_argument(
        "--endpoints",
        metavar="FILE",
        help="who is there: the output of `kubectl get pods,namespaces,serviceaccounts -A -o json`",
    )
    return parser


def _manifests(files: Sequence[str]) -> Iterator[Manifest | Finding]:
    for name in files:
        path = Path(name)
        if name != _STANDARD_INPUT and path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES)
            if not inside:
                raise _UsageError(f"there is no {' or '.join(_SUFFIXES)} file in {name}")
            yield from (found for each in inside for found in read_manifests(str(each), _text(str(each))))
        else:
            yield from read_manifests("standard input" if name == _STANDARD_INPUT else name, _text(name))


def _inventory(name: str) -> PodInventory:
    try:
        return read_inventory(_text(name))
    except InventoryError as error:
        raise _UsageError(f"{name}: {error}") from error


def _text(name: str) -> str:
    if name == _STANDARD_INPUT:
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise _UsageError(f"{name} cannot be read: {reason}") from error


def _told(linted: Linted, form: str, output: TextIO) -> str:
    if form == "json":
        return as_json(linted) + "\n"
    if form == "sarif":
        return as_sarif(linted) + "\n"
    coloured = output.isatty() and not os.environ.get("NO_COLOR")
    return as_text(linted, COLOURED if coloured else PLAIN)


if __name__ == "__main__":
    sys.exit(main())
