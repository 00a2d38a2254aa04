"""Which cluster a kubeconfig context really leads to, its nodes, and in plain words why it leads nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, cast

from analysis.fleet import ClusterHandle
from analysis.plan import Cni
from provision.errors import CompoundError, ProvisionError, UnreachableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ANSWER_WITHIN = timedelta(seconds=10)
CNI_GROUPS = {Cni.CALICO_BGP: "crd.projectcalico.org/v1", Cni.CILIUM_CLUSTERMESH: "cilium.io/v2"}
RBAC = "docs/rbac.yaml"


def identify(handles: Iterable[ClusterHandle], cni: Cni) -> dict[str, str]:
    """The identity of every cluster, by region: all are asked at once.

    Raises:
        ProvisionError: one or more do not answer, or not as they must.
    """
    identities: dict[str, str] = {}
    errors: list[ProvisionError] = []
    handles = tuple(handles)
    with ThreadPoolExecutor(max_workers=len(handles)) as pool:
        answers = [(handle, pool.submit(_identity, handle, cni)) for handle in handles]
    for handle, answer in answers:
        try:
            identities[handle.region] = answer.result()
        except ProvisionError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CompoundError(f"{len(errors)} of {len(handles)} clusters cannot be used", errors)
    return identities


def refuse_one_cluster_twice(handles: Iterable[ClusterHandle], identities: Mapping[str, str]) -> None:
    """Two contexts may reach one cluster by different addresses; its identity tells.

    Raises:
        ProvisionError: two regions are the same cluster.
    """
    first: dict[str, ClusterHandle] = {}
    for handle in handles:
        other = first.setdefault(identities[handle.region], handle)
        if other is not handle:
            raise ProvisionError(
                f"regions {other.region} and {handle.region} are one and the same cluster",
                where=f"contexts {other.context} and {handle.context}",
                expected="a cluster of its own behind each region's context",
                observed=f"both have the kube-system namespace {identities[handle.region]}",
                remedy="correct context (or kubeconfig) of one of the two regions in the environment file",
            )


def node_addresses(handle: ClusterHandle) -> list[tuple[str, IPv4Address]]:
    """Name and InternalIP of every node of the cluster.

    Raises:
        ProvisionError: the cluster does not tell.
    """
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    with api_client(handle) as client:
        try:
            nodes = _get(client, "/api/v1/nodes")
        except (ApiException, HTTPError) as error:
            raise _explain(error, handle, client.configuration.host, "list nodes") from None
    return [
        (node["metadata"]["name"], IPv4Address(address["address"]))
        for node in nodes["items"]
        for address in node["status"].get("addresses", ())
        if address["type"] == "InternalIP" and ":" not in address["address"]
    ]


def _identity(handle: ClusterHandle, cni: Cni) -> str:
    """The UID of the cluster's kube-system namespace, which is made once in the cluster's life."""
    # Here, because the import takes most of a second and not every run attaches.
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    with api_client(handle) as client:
        try:
            namespace = _get(client, "/api/v1/namespaces/kube-system")
        except (ApiException, HTTPError) as error:
            raise _explain(error, handle, client.configuration.host) from None
        try:
            _get(client, f"/apis/{CNI_GROUPS[cni]}")
        except ApiException as error:
            # Whoever may not ask which kinds there are (403) finds out later; only "not there" is certain.
            if error.status == 404:
                raise _wrong_cni(handle, cni) from None
        except HTTPError as error:
            raise _explain(error, handle, client.configuration.host) from None
    return str(namespace["metadata"]["uid"])


def api_client(handle: ClusterHandle) -> ApiClient:
    """A connection to that cluster, with the credentials of its context; nothing is asked of it yet.

    Raises:
        ProvisionError: the kubeconfig or its context cannot be used.
    """
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, new_client_from_config

    configuration = Configuration()
    configuration.retries = False
    try:
        return new_client_from_config(
            config_file=handle.kubeconfig,
            context=handle.context,
            client_configuration=configuration,
            persist_config=False,
        )
    except ConfigException as error:
        raise ProvisionError(
            "the context cannot be used",
            where=f"{handle.region} ({handle.kubeconfig}, context {handle.context})",
            observed=str(error),
            remedy=f"kubectl --kubeconfig {handle.kubeconfig} --context {handle.context} get nodes shows the same",
        ) from None


def _get(client: ApiClient, path: str) -> dict[str, Any]:
    """The JSON that a GET answers with. The typed API would build the client's whole model for three fields."""
    headers = {"Accept": "application/json"}
    client.update_params_for_auth(headers, [], ["BearerToken"])
    # Not call_api: that fails with an AttributeError of its own when a certificate cannot be verified.
    answer = client.request(
        "GET",
        client.configuration.host + path,
        headers=headers,
        _preload_content=False,
        _request_timeout=ANSWER_WITHIN.total_seconds(),
    )
    return cast(dict[str, Any], json.loads(answer.data))


def _explain(error: Exception, handle: ClusterHandle, server: str, wanted: str = "get namespaces") -> ProvisionError:
    """An answer that is none, in words; the client's own text is kept as what was observed."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    where = f"{handle.region} ({server}, context {handle.context})"
    status = error.status if isinstance(error, ApiException) else None
    text = str(error.reason if isinstance(error, ApiException) else error)
    if status == 401:
        return UnreachableError(
            "the API server does not accept the credentials",
            where=where,
            observed="401 Unauthorized",
            cause="the token or certificate in the kubeconfig has expired, or is another cluster's",
            remedy="renew the kubeconfig's credentials",
        )
    if status == 403:
        return UnreachableError(
            "the API server forbids what is needed",
            where=where,
            expected=f"to be allowed to {wanted}",
            observed=f"403 Forbidden: {_api_message(error)}",
            remedy=f"apply {RBAC} to the cluster and use the service account that it makes",
        )
    if status:
        return UnreachableError(
            "the API server answers with an error", where=where, observed=f"{status} {text}: {_api_message(error)}"
        )
    if "certificate" in text.lower() or "ssl" in text.lower():
        return UnreachableError(
            "the API server's certificate cannot be trusted",
            where=where,
            observed=text,
            cause="certificate-authority-data in the kubeconfig is not that of this server, or the certificate has "
            "expired or is for another name",
            remedy="renew the kubeconfig; certificates are always verified",
        )
    assert isinstance(error, HTTPError | ApiException)
    return UnreachableError(
        "the API server does not answer",
        where=where,
        expected=f"an answer within {ANSWER_WITHIN.total_seconds():g} s",
        observed=text,
        cause="the address is wrong, a firewall or a missing VPN is in the way, or the server is down",
        remedy=f"kubectl --kubeconfig {handle.kubeconfig} --context {handle.context} version shows the same",
    )


def _api_message(error: Exception) -> str:
    """The message of the Status object that an API server sends with an error, or the beginning of what it sent."""
    body = getattr(error, "body", None) or ""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(body)[:200]


def _wrong_cni(handle: ClusterHandle, cni: Cni) -> ProvisionError:
    return ProvisionError(
        f"the cluster has no {cni.value.partition('-')[0].capitalize()}",
        where=f"{handle.region} (context {handle.context})",
        expected=f"the kinds of {CNI_GROUPS[cni]}, as cni.kind is {cni.value}",
        observed="404 Not Found",
        remedy="correct cni.kind in the environment file, or the region's context",
    )
