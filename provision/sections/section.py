"""What all sections of the environment file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the file: unknown keys are mistakes, and nobody changes it once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
