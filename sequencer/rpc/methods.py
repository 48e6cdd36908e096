"""Everything that answers calls, put together over one node."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sequencer.rpc.admission import Admission
from sequencer.rpc.commits import Commits
from sequencer.rpc.ethereum import Ethereum
from sequencer.rpc.forward import Forward
from sequencer.rpc.history import History
from sequencer.rpc.jsonrpc import METHOD_NOT_FOUND, Caller, Dispatcher, RpcError
from sequencer.rpc.limits import Limits
from sequencer.rpc.native import Native
from sequencer.rpc.senders import Senders
from sequencer.rpc.views import Views
from sequencer.rpc.websocket import Subscriptions, WebSockets
from sequencer.service import NodeService

if TYPE_CHECKING:
    from collections.abc import Iterable


class Rpc:
    """The parts that methods are made of, and the dispatcher over all methods."""

    def __init__(self, service: NodeService, limits: Limits) -> None:
        self.service = service
        self.limits = limits
        self.ledger = service.ledger
        self.commits = Commits(service, limits)
        self.senders = Senders(service, limits)
        self.admission = Admission(service, self.senders, limits)
        self.views = Views(service, self.commits, limits)
        for observer in (self.views.on_commit, self.senders.on_commit):
            self.commits.observe(observer)
        self.forward = Forward(limits)
        parts = (Ethereum(self), Native(self), History(self), Subscriptions(self))
        methods = {name: method for part in parts for name, method in part.methods().items()}
        self.dispatcher = Dispatcher(methods, limits)
        self._submitted_transactions = 0
        self._submitted_bytes = 0

    async def close(self) -> None:
        """End everything that waits, and the connections to rollups."""
        self.commits.close()
        await self.senders.close()
        await self.forward.close()

    def namespace(self, caller: Caller) -> int:
        """The namespace of the path that was called.  Raises RpcError at `/`."""
        if caller.namespace is None:
            reason = "this method is about one rollup: call it at /rollup/<chain id>"
            raise RpcError(METHOD_NOT_FOUND, reason)
        return caller.namespace

    def submitted(self, transactions: int, size: int) -> None:
        """Count what came in other than by `eth_sendRawTransaction`."""
        self._submitted_transactions += transactions
        self._submitted_bytes += size

    def metrics(self, connections: int, websockets: WebSockets) -> bytes:
        """The counters of the RPC as Prometheus text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(self._families(connections, websockets)))
        return generate_latest(registry)

    def _families(self, connections: int, websockets: WebSockets) -> list[Metric]:
        calls = CounterMetricFamily("sequencer_rpc_calls", "Calls", labels=["method"])
        for name, count in self.dispatcher.calls.items():
            calls.add_metric([name], count)
        errors = CounterMetricFamily("sequencer_rpc_errors", "Errors answered", labels=["code"])
        for code, count in self.dispatcher.errors.items():
            errors.add_metric([str(code)], count)
        return [
            calls,
            errors,
            CounterMetricFamily(
                "sequencer_rpc_submitted_transactions",
                "Transactions taken by POST /submit and seq_submit",
                self._submitted_transactions,
            ),
            CounterMetricFamily(
                "sequencer_rpc_submitted_bytes",
                "Bytes taken by POST /submit and seq_submit",
                self._submitted_bytes,
            ),
            GaugeMetricFamily("sequencer_rpc_connections", "Open connections", connections),
            GaugeMetricFamily(
                "sequencer_rpc_websockets", "Open WebSockets", websockets.connections
            ),
            GaugeMetricFamily(
                "sequencer_rpc_subscriptions", "Open subscriptions", websockets.subscriptions
            ),
            GaugeMetricFamily("sequencer_rpc_waiting", "Waiting calls", self.commits.waiting),
            GaugeMetricFamily(
                "sequencer_rpc_accounts", "Senders remembered", len(self.senders.accounts)
            ),
        ]


class _Collected:
    """Families that are there already, in the form that a registry asks for them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> "Iterable[Metric]":
        return self._families
