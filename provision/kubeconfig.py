"""What a kubeconfig file says, as far as an environment needs it. Credentials are left where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

SKIPS_VERIFICATION = "insecure-skip-tls-verify"


class KubeconfigError(Exception):
    """A kubeconfig cannot be read; the text says why, as the rest of a sentence that begins with the file."""


@dataclass(frozen=True)
class Kubeconfig:
    """Contexts of a kubeconfig file.

    Attributes:
        path: the file.
        servers: the API server's URL by context; empty where the context's cluster is not in the file.
        unverified: contexts whose server's certificate the file says not to verify.
    """

    path: Path
    servers: dict[str, str]
    unverified: frozenset[str] = frozenset()


def read_kubeconfig(path: Path) -> Kubeconfig:
    """Read a kubeconfig file.

    Raises:
        KubeconfigError: it is not there, may not be read, or is no kubeconfig.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"cannot be read: {getattr(error, 'strerror', 'it is not text')}") from None
    except yaml.YAMLError:
        raise KubeconfigError("is not YAML") from None
    try:
        clusters = {item["name"]: item["cluster"]["server"] for item in data.get("clusters") or ()}
        careless = {item["name"] for item in data.get("clusters") or () if item["cluster"].get(SKIPS_VERIFICATION)}
        contexts = {item["name"]: item["context"]["cluster"] for item in data.get("contexts") or ()}
    except (AttributeError, TypeError, KeyError):
        raise KubeconfigError("is not a kubeconfig") from None
    if not contexts:
        raise KubeconfigError("has no contexts")
    return Kubeconfig(
        path,
        {context: clusters.get(cluster, "") for context, cluster in contexts.items()},
        frozenset(context for context, cluster in contexts.items() if cluster in careless),
    )
