"""A client of one node: the project's own, readiness, and web3.py for its rollups."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from sequencer.client import Refused, SequencerClient, Unreachable

if TYPE_CHECKING:
    from web3 import AsyncWeb3

TIMEOUT_S: Final = 10.0
READY_TIMEOUT_S: Final = 2.0


@dataclass(slots=True)
class NodeClient:
    """Asks the one node at `url`, and no other when that fails."""

    url: str
    api: SequencerClient = field(init=False)
    _web3: dict[int, "AsyncWeb3[Any]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api = SequencerClient(self.url, TIMEOUT_S)

    async def is_ready(self, session: aiohttp.ClientSession) -> tuple[bool, str]:
        """Whether the node is ready for traffic, and what it says about that."""
        try:
            timeout = aiohttp.ClientTimeout(total=READY_TIMEOUT_S)
            async with session.get(self.url + "/readyz", timeout=timeout) as response:
                return response.status == 200, (await response.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            return False, f"does not answer ({type(error).__name__})"

    async def send_raw(self, chain_id: int, raw: bytes) -> bytes:
        """Send a signed transaction as web3.py does; its Ethereum hash (32 bytes).

        Raises `Refused` and `Unreachable`, as the project's own client does.
        """
        from web3.exceptions import Web3RPCError

        try:
            return bytes(await self.web3(chain_id).eth.send_raw_transaction(raw))
        except Web3RPCError as error:
            answer: Any = error.rpc_response or {}
            details = answer.get("error") or {}
            message = str(details.get("message", error))
            raise Refused(details.get("code", 0), message, details.get("data")) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"{self.url} does not answer ({type(error).__name__})") from None

    def web3(self, chain_id: int) -> "AsyncWeb3[Any]":
        """web3.py connected to this node's endpoint of one rollup."""
        if chain_id not in self._web3:
            from web3 import AsyncHTTPProvider, AsyncWeb3

            provider = AsyncHTTPProvider(
                f"{self.url}/rollup/{chain_id}",
                request_kwargs={"timeout": aiohttp.ClientTimeout(total=TIMEOUT_S)},
                exception_retry_configuration=None,  # we decide when to try again, and where
            )
            self._web3[chain_id] = AsyncWeb3(provider)
        return self._web3[chain_id]

    async def aclose(self) -> None:
        """Close every connection."""
        await self.api.close()
        for client in self._web3.values():
            await client.provider.disconnect()
        self._web3.clear()


def open_session() -> aiohttp.ClientSession:
    """A plain HTTP session with a timeout on every request."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0)
    )
