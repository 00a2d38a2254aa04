"""A pytest plugin for trials: leave out checks that disrupt, except those of one requirement, and areas that cost much.

A check that restarts agents or makes outages costs as much as many others together, and says nothing of a fault that is
seen without it. What is left out is written to the run's folder, so that nobody takes it for looked at.

    pytest -p tools.calm --disruptive-of NET-ROUTE-021 --without NET-POL suites/
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.run import current_run, write_json
from fixtures.selection import requirement_of

LEFT_OUT = "left-out.json"
"""In the run's folder: the requirements some or all of whose checks were left out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--disruptive-of",
        metavar="ID",
        default="",
        help="leave out checks that disrupt, except those of this requirement",
    )
    parser.addoption("--without", metavar="AREA", action="append", default=[], help="leave out the checks of this area")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set checks aside, and write down which."""
    wanted, without = config.getoption("--disruptive-of"), {*config.getoption("--without")}

    def is_aside(item: pytest.Item) -> bool:
        requirement = requirement_of(item) or ""
        disrupts = item.get_closest_marker("disruptive") is not None and requirement != wanted
        return disrupts or requirement.rpartition("-")[0] in without

    aside = [item for item in items if is_aside(item)]
    if aside:
        config.hook.pytest_deselected(items=aside)
        items[:] = [item for item in items if item not in aside]
    run = current_run(config)
    if run is not None:
        write_json(run.folder / LEFT_OUT, sorted({requirement_of(item) or item.nodeid for item in aside}))


def left_out(folder: Path) -> set[str]:
    """The requirements that the run of that folder left out, wholly or in part; none where it left out nothing."""
    path = folder / LEFT_OUT
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else set()
