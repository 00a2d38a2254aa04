"""The JSON schema of the environment file, for editors that complete and check as one types.

Run as a module it writes docs/environment.schema.json; a test fails when that file is not current.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from analysis.plan import UnderlayPlan
from provision.environment import Environment
from provision.environment_values import write_duration, write_port_range

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "docs" / "environment.schema.json"


class _FileSchema(GenerateJsonSchema):
    """Defaults as people write them in the file."""

    def encode_default(self, dft: Any) -> Any:
        """A duration is text with a unit, not pydantic's ISO 8601; a port is not the range that it makes."""
        if isinstance(dft, timedelta):
            return write_duration(dft)
        if dft == UnderlayPlan().open_ports:
            return [write_port_range(ports) for ports in dft]
        return super().encode_default(dft)


def schema_text() -> str:
    """The schema as it is written to the file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Environment.model_json_schema(
        schema_generator=_FileSchema
    )
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text())
