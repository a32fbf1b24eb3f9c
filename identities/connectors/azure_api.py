"""Call the REST API of one integration account of Azure Logic Apps, and of one key vault.

azure-core sends the calls and repeats none, azure-identity finds the credentials. Answers are the JSON of the API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from identities.connectors.base import ConnectorError, ConnectorUnreachable
from identities.connectors.remote_calls import AnswerLost, ChangeRejected, read_retry_after, readable_reason

MANAGEMENT_URL = "https://management.azure.com"
LOGIC_VERSION, VAULT_VERSION = "2019-05-01", "7.4"
"""The versions of the two APIs."""
CONNECT_SECONDS, READ_SECONDS = 10, 30
MAX_PAGES = 200
"""How many pages of agreements or certificates of an account are looked at."""
NOT_INSTALLED = (
    "Azure Logic Apps needs azure-identity, which is not installed: install what requirements-azure.txt names, and "
    "restart."
)

_PREFIX = r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[\w().-]{1,90}/providers/"
_ACCOUNT = re.compile(_PREFIX + r"Microsoft\.Logic/integrationAccounts/[A-Za-z0-9_().-]{1,80}", re.ASCII)
_VAULT = re.compile(_PREFIX + r"Microsoft\.KeyVault/vaults/[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]", re.ASCII)
_BUSY = frozenset({429, 503})


def check_account(account: str) -> None:
    """Raise ConnectorError for a text that is no resource ID of an integration account."""
    if not _ACCOUNT.fullmatch(account):
        raise ConnectorError(
            "That is no resource ID of an integration account: copy it from its properties in the portal, such as "
            "/subscriptions/…/resourceGroups/b2b/providers/Microsoft.Logic/integrationAccounts/acme."
        )


def check_vault(vault: str) -> None:
    """Raise ConnectorError for a text that is no resource ID of a key vault; none is allowed."""
    if vault and not _VAULT.fullmatch(vault):
        raise ConnectorError(
            "That is no resource ID of a key vault: copy it from its properties in the portal, such as "
            "/subscriptions/…/resourceGroups/b2b/providers/Microsoft.KeyVault/vaults/acme-as2."
        )


@dataclass(frozen=True)
class AzureApi:
    """An integration account and a key vault by their resource IDs, "" for no key vault.

    `management_url` and `vault_url` are other addresses than those of Azure. `read_seconds` is the time-out of an
    answer.
    """

    account: str
    vault: str = ""
    management_url: str = MANAGEMENT_URL
    vault_url: str = ""
    read_seconds: float = READ_SECONDS

    @property
    def name(self) -> str:
        """How messages name the account."""
        return f"Azure Logic Apps ({_last(self.account)})"

    @property
    def vault_name(self) -> str:
        """How messages name the key vault."""
        return f"The key vault {_last(self.vault)}"

    def read_all(self, kind: str) -> list[dict[str, Any]]:
        """Return the agreements or the certificates of the account. Raises ConnectorError."""
        url, found = self.logic(kind), list[dict[str, Any]]()
        for _ in range(MAX_PAGES):
            page = self.call("GET", url)[0]
            listed = page.get("value")
            if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
                raise ConnectorUnreachable(f"{self.name} gave no usable answer about its {kind}.")
            found += listed
            url = str(page.get("nextLink") or "")
            if not url:
                return found
        raise ConnectorError(f"{self.name} has more than {MAX_PAGES} pages of {kind}, which are not all looked at.")

    def logic(self, path: str) -> str:
        """Return the address of something in the account."""
        return f"{self.management_url}{self.account}/{path}?api-version={LOGIC_VERSION}"

    def in_vault(self, path: str) -> str:
        """Return the address of something in the key vault."""
        return f"{self._vault_base}/{path}?api-version={VAULT_VERSION}"

    @property
    def _vault_base(self) -> str:
        return self.vault_url or f"https://{_last(self.vault).lower()}.vault.azure.net"

    def call(
        self,
        method: Literal["GET", "PUT", "POST"],
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        etag: str = "",
        may_lack: bool = False,
    ) -> tuple[dict[str, Any], str]:
        """Return the JSON of an answer, and its ETag; {} where nothing is there and it `may_lack`.

        Raises a ConnectorError that says whether the call had an effect.
        """
        where, client = self._target(url)
        from azure.core import exceptions
        from azure.core.rest import HttpRequest

        request = HttpRequest(method, url, json=body, headers={"If-Match": etag} if etag else {})
        try:
            answer = client.send_request(request, enforce_https=not url.startswith("http://"))
        except exceptions.ServiceRequestError as error:
            raise ConnectorUnreachable(f"{where} can't be reached ({type(error).__name__}).") from None
        except exceptions.ClientAuthenticationError as error:
            raise ConnectorError(
                f"azure-identity gets no token for {where}. Give the machine a managed identity, or set "
                f"AZURE_CLIENT_ID and what belongs to it: {readable_reason(error.message)}"
            ) from None
        except exceptions.AzureError as error:
            raise _without_answer(where, method, type(error).__name__) from None
        if answer.status_code == 404 and may_lack:
            return {}, ""
        if not 200 <= answer.status_code < 300:
            raise _explain(where, method, answer)
        try:
            data = answer.json()
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise _without_answer(where, method, "no JSON")
        return data, str(answer.headers.get("ETag") or "")

    def _target(self, url: str) -> tuple[str, Any]:
        """Return what is asked at an address, and the client for it. Raises ConnectorError for any other address."""
        if self.vault and url.startswith(f"{self._vault_base}/"):
            return self.vault_name, self._vault_client
        if _origin(url) == _origin(self.management_url):
            return self.name, self._management_client
        raise ConnectorError(f"{self.name} names a next page at another address, which is not asked.")

    @cached_property
    def _management_client(self) -> Any:
        return self._client("https://management.azure.com/.default")

    @cached_property
    def _vault_client(self) -> Any:
        return self._client("https://vault.azure.net/.default")

    def _client(self, scope: str) -> Any:
        """Return a client that adds a token, and neither repeats a call, follows a redirect nor logs."""
        try:
            from azure.core import PipelineClient
            from azure.core.pipeline.policies import BearerTokenCredentialPolicy
            from azure.core.pipeline.transport import RequestsTransport

            credential = self._credential
        except ImportError as error:
            raise ConnectorError(NOT_INSTALLED) from error
        transport = RequestsTransport(connection_timeout=CONNECT_SECONDS, read_timeout=self.read_seconds)
        policies = [BearerTokenCredentialPolicy(credential, scope)]
        return PipelineClient(self.management_url, policies=policies, transport=transport)

    @cached_property
    def _credential(self) -> Any:
        """Find the credentials of the machine; those of a developer who has logged in on it are not asked for."""
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(
            exclude_shared_token_cache_credential=True,
            exclude_visual_studio_code_credential=True,
            exclude_cli_credential=True,
            exclude_developer_cli_credential=True,
            exclude_powershell_credential=True,
            exclude_broker_credential=True,
            retry_total=0,
        )


def _explain(where: str, method: str, answer: Any) -> ConnectorError:
    """Return the error of an answer that is no success."""
    status = answer.status_code
    if status in _BUSY:
        return ConnectorUnreachable(
            f"{where} is busy (HTTP {status}).", read_retry_after(answer.headers.get("Retry-After"))
        )
    try:
        found = answer.json()["error"]
        reason = f": {readable_reason(': '.join((found['code'], found['message'])))}"
    except (ValueError, RecursionError, KeyError, TypeError):
        reason = "."
    if status in (401, 403):
        return ChangeRejected(f"{where} refuses the credentials of this machine (HTTP {status}){reason}")
    if status == 412:
        return ConnectorError(f"{where} was changed by somebody else meanwhile: it is read again.")
    if status < 500:
        return ChangeRejected(f"{where} refuses the call (HTTP {status}){reason}")
    return _without_answer(where, method, f"HTTP {status}")


def _without_answer(where: str, method: str, why: str) -> ConnectorError:
    """Return the error of a call that was sent and not answered: what changes something may have had its effect."""
    text = f"{where} gave no usable answer ({why})."
    return ConnectorUnreachable(text) if method == "GET" else AnswerLost(f"{text} It is asked first what it has.")


def _last(resource_id: str) -> str:
    return resource_id.rpartition("/")[2]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of an address; of one that can't be read, what no other has."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme)
    except ValueError:
        return "", url, None
