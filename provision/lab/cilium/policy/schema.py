"""The schema of Cilium's policies, as their CustomResourceDefinitions tell it to the API server (`cilium.io/v2`)."""

from __future__ import annotations

from typing import Any

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_TRUTH: _Schema = {"type": "boolean"}
_NETWORK = r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"
_PORT = r"^([0-9]{1,5}|[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$"
_ENTITIES = (
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "host",
    "init",
    "ingress",
    "unmanaged",
    "remote-node",
    "health",
    "none",
    "kube-apiserver",
)
_MOST_PORTS, _MOST_ICMP_FIELDS = 40, 40
_LARGEST_PORT = 65535


def _object(**properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties}


def _requiring(schema: _Schema, *properties: str) -> _Schema:
    return schema | {"required": list(properties)}


def _list(items: _Schema, **bounds: int) -> _Schema:
    return {"type": "array", "items": items, **bounds}


def _anything() -> _Schema:
    """Layer 7 and the like, which the lab does not look into."""
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _selector() -> _Schema:
    operator = {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]}
    expression = _requiring(_object(key=_TEXT, operator=operator, values=_list(_TEXT)), "key", "operator")
    labels = {"type": "object", "additionalProperties": _TEXT}
    return _object(matchLabels=labels, matchExpressions=_list(expression))


def _networks() -> _Schema:
    network = {"type": "string", "pattern": _NETWORK}
    return _object(cidr=network, cidrGroupRef=_TEXT, cidrGroupSelector=_selector(), **{"except": _list(network)})


def _ports(*, deny: bool) -> _Schema:
    port = _object(
        port={"type": "string", "pattern": _PORT},
        endPort={"type": "integer", "minimum": 0, "maximum": _LARGEST_PORT},
        protocol={"type": "string", "enum": ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "ANY"]},
    )
    ports = _list(port, maxItems=_MOST_PORTS)
    if deny:
        return _list(_object(ports=ports))
    return _list(
        _object(
            ports=ports,
            rules=_anything(),
            serverNames=_list(_TEXT),
            listener=_anything(),
            terminatingTLS=_anything(),
            originatingTLS=_anything(),
        )
    )


def _icmps() -> _Schema:
    family = {"type": "string", "enum": ["IPv4", "IPv6"]}
    field = _requiring(_object(family=family, type={"x-kubernetes-int-or-string": True}), "type")
    return _list(_object(fields=_list(field, maxItems=_MOST_ICMP_FIELDS)))


def _rule(side: str, *, deny: bool) -> _Schema:
    peers: dict[str, _Schema] = {
        "Endpoints": _list(_selector()),
        "Requires": _list(_selector()),
        "Entities": _list({"type": "string", "enum": list(_ENTITIES)}),
        "CIDR": _list({"type": "string", "pattern": _NETWORK}),
        "CIDRSet": _list(_networks()),
        "Nodes": _list(_selector()),
        "Groups": _list(_anything()),
    }
    if side == "to":
        peers["Services"] = _list(_anything())
        if not deny:
            peers["FQDNs"] = _list(_object(matchName=_TEXT, matchPattern=_TEXT))
    beside = {} if deny else {"authentication": _requiring(_object(mode=_TEXT), "mode")}
    named = {f"{side}{kind}": schema for kind, schema in peers.items()}
    return _object(**named, toPorts=_ports(deny=deny), icmps=_icmps(), **beside)


def _spec(*, clusterwide: bool) -> _Schema:
    label = _requiring(_object(key=_TEXT, source=_TEXT, value=_TEXT), "key")
    on_nodes = {"nodeSelector": _selector()} if clusterwide else {}
    found = _object(
        endpointSelector=_selector(),
        **on_nodes,
        ingress=_list(_rule("from", deny=False)),
        ingressDeny=_list(_rule("from", deny=True)),
        egress=_list(_rule("to", deny=False)),
        egressDeny=_list(_rule("to", deny=True)),
        enableDefaultDeny=_object(ingress=_TRUTH, egress=_TRUTH),
        description=_TEXT,
        labels=_list(label),
        log=_object(value=_TEXT),
    )
    subjects = ("endpointSelector", "nodeSelector") if clusterwide else ("endpointSelector",)
    return found | {"oneOf": [{"required": [subject]} for subject in subjects]}


def policy_schema(*, clusterwide: bool) -> _Schema:
    """The schema of CiliumClusterwideNetworkPolicy, or of CiliumNetworkPolicy."""
    spec = _spec(clusterwide=clusterwide)
    return _object(spec=spec, specs=_list(spec), status=_anything())
