"""JSON by the C parts of the json module, without what that module costs to import."""

from __future__ import annotations

from typing import Any


def json_codec() -> tuple[Any, Any]:
    """What writes a value as ASCII JSON, and what reads it: the C parts of the json module, else the module itself."""
    try:
        import _json

        library: Any = _json
        text = library.encode_basestring_ascii
        encode = library.make_encoder(None, None, text, None, ":", ",", False, False, False)
        scan = library.make_scanner(_AsJsonDecoder)
        if scan("".join(encode([{"a": 1.5}], 0)), 0)[0] != [{"a": 1.5}]:
            raise TypeError
    except (AttributeError, ImportError, TypeError):
        import json

        return lambda value: json.dumps(value, separators=(",", ":")).encode("ascii"), json.loads
    return (
        lambda value: "".join(encode(value, 0)).encode("ascii"),
        lambda data: scan(data.decode("utf-8"), 0)[0],
    )


class _AsJsonDecoder:
    """The settings that the scanner looks up in a decoder."""

    strict = True
    object_hook = object_pairs_hook = parse_constant = None
    parse_float, parse_int = float, int


to_json, from_json = json_codec()
