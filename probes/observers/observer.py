"""What an observer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from probes.deploy import ProbeSet
from probes.mesh import Mesh

Observer: TypeAlias = Callable[[Mesh, ProbeSet], Any]
"""Gathers one family of facts through the mesh and the probe pods that were placed in it."""
