"""Where containers get their configuration from: ConfigMaps, Secrets and the pod's own fields."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.lab.kube.client import (
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SECRETS,
    SERVICE_ACCOUNTS,
    ApiClient,
    KubeObject,
    NotFound,
)

TOKEN_SECONDS = 3600


class ConfigurationError(Exception):
    """A container or a volume refers to something that is not there (yet)."""


@dataclass(frozen=True)
class PodContext:
    """What a pod's fields refer to when its containers are made.

    Attributes:
        pod: the pod.
        address: the pod's address.
        node_address: its node's InternalIP.
    """

    pod: KubeObject
    address: str
    node_address: str

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        name: str = self.pod["metadata"]["namespace"]
        return name

    def field(self, path: str) -> str:
        """The value of a downward API field such as "metadata.name" or "metadata.labels['app']".

        Raises:
            ConfigurationError: the downward API has no such field.
        """
        meta, spec = self.pod["metadata"], self.pod["spec"]
        plain = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
            "metadata.uid": meta["uid"],
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.hostIP": self.node_address,
            "status.hostIPs": self.node_address,
            "status.podIP": self.address,
            "status.podIPs": self.address,
        }
        if path in plain:
            return str(plain[path])
        for table in ("labels", "annotations"):
            rows: Mapping[str, str] = meta.get(table) or {}
            if path == f"metadata.{table}":
                return "\n".join(f'{key}="{value}"' for key, value in sorted(rows.items()))
            if path.startswith(f"metadata.{table}['") and path.endswith("']"):
                return rows.get(path.split("'")[1], "")
        raise ConfigurationError(f'fieldRef "{path}": the downward API has no such field')


class ConfigurationSource:
    """Reads ConfigMaps and Secrets, and asks for ServiceAccount tokens, as the node agent."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def config_map(self, namespace: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """The contents of a ConfigMap. Raises ConfigurationError when there is none and it is not optional."""
        obj = await self._read("configmap", namespace, name, optional=optional)
        texts = {key: str(value).encode() for key, value in (obj.get("data") or {}).items()}
        return texts | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}

    async def secret(self, namespace: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """The contents of a Secret. Raises ConfigurationError when there is none and it is not optional."""
        obj = await self._read("secret", namespace, name, optional=optional)
        texts = {key: str(value).encode() for key, value in (obj.get("stringData") or {}).items()}
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()} | texts

    async def token(self, namespace: str, account: str, spec: Mapping[str, Any]) -> bytes:
        """A token of a ServiceAccount, as a projected volume asks for it."""
        wanted: dict[str, Any] = {"expirationSeconds": spec.get("expirationSeconds", TOKEN_SECONDS)}
        if spec.get("audience"):
            wanted["audiences"] = [spec["audience"]]
        path = SERVICE_ACCOUNTS.path(namespace, account, "token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        answer = await self._client.request("POST", path, body=request)
        return str(answer["status"]["token"]).encode()

    async def volume(self, namespace: str, claim: str) -> str:
        """The path on the node of what a claim is bound to. Raises ConfigurationError when there is nothing yet."""
        try:
            asked = await self._client.get(PERSISTENT_VOLUME_CLAIMS, claim, namespace)
            name = asked["spec"].get("volumeName")
            if not name:
                raise ConfigurationError(f'persistentvolumeclaim "{claim}" is not bound to a volume')
            spec = (await self._client.get(PERSISTENT_VOLUMES, name))["spec"]
        except NotFound as error:
            raise ConfigurationError(error.message) from None
        source = spec.get("local") or spec.get("hostPath")
        if source is None:
            raise ConfigurationError(f'persistentvolume "{name}": the lab has local volumes only')
        return str(source["path"])

    async def _read(self, kind: str, namespace: str, name: str, *, optional: bool) -> KubeObject:
        try:
            return await self._client.get(CONFIG_MAPS if kind == "configmap" else SECRETS, name, namespace)
        except NotFound:
            if optional:
                return {}
            raise ConfigurationError(f'{kind} "{name}" not found in namespace "{namespace}"') from None
