"""Scenarios in sentences for people."""

from dataclasses import fields
from typing import Final

from net.simulated import Conditions
from testnet.scenarios import vocabulary as words
from testnet.scenarios.expectations import Expectation, name_nodes

_SENTENCES: Final[dict[type, str]] = {
    words.OneWay: "nothing from {sender} reaches {receiver}",
    words.Heal: "all links work again",
    words.Reconnect: "{first} and {second} lose their connection and regain it",
    words.Restart: "{node} starts again",
    words.CrashAll: "all crash, and start again {down_ms} ms later",
    words.Pause: "{node} stands still",
    words.Resume: "{node} goes on",
    words.ClockJump: "the clock of {node} jumps by {by_ms} ms",
    words.DiskFull: "the disk of {node} is full",
    words.DiskFreed: "there is room again on the disk of {node}",
    words.Wipe: "{node} loses its data",
    words.BeginWithSnapshot: "{node} is given a snapshot of {source}",
    words.SlowLinks: "everything from and to {node} takes {delay_ms} ms longer",
    words.Leave: "{node} asks to leave",
    words.Rotate: "{node} asks to vote with another BLS key",
    words.L1Stalls: "the L1 stalls",
    words.L1Resumes: "the L1 goes on",
}
"""What can be said by naming the fields of an action."""

_POINTS: Final = {
    "now": "crashes",
    "before save": "crashes before it saves",
    "after save": "crashes when it has saved and not yet sent",
    "send": "crashes between two messages",
    "torn save": "cannot save, and crashes",
    "torn save kept": "is told that it cannot save although it did, and crashes",
}
"""What a node does at a point of its drain."""

_CALLED: Final = {words.LEADER: "the leader", words.NEXT_LEADER: "the next leader"}
_NUMBERS: Final = ("down_ms", "by_ms", "delay_ms")
"""The fields that name no node."""


def describe(scenario: "words.Scenario") -> list[str]:
    """The story, a line for each step."""
    return [f"{step.at_ms:>7} ms  {tell(step.what)}" for step in scenario.steps]


def tell(what: "words.Action | Expectation") -> str:
    """What happens, or is expected, in a sentence."""
    match what:
        case Expectation():
            return f"expected: {what}"
        case words.Partition(groups):
            return "partition: " + " | ".join(name_nodes(group) for group in groups)
        case words.Load():
            return _load(what)
        case words.Crash():
            return _crash(what)
        case words.Weather(conditions):
            return _weather(conditions)
        case words.Join(node, only_peer):
            only = "" if only_peer is None else f", and knows {_name(only_peer)} alone"
            return f"{_name(node)} joins{only}"
        case _:
            named = {item.name: getattr(what, item.name) for item in fields(what)}
            told = {
                name: f"{value:,}" if name in _NUMBERS else _name(value)
                for name, value in named.items()
            }
            return _SENTENCES[type(what)].format(**told)


def _name(node: int) -> str:
    return _CALLED.get(node) or f"node {node}"


def _load(load: "words.Load") -> str:
    over = f" over {load.over_ms:,} ms" if load.over_ms else ""
    to = "each to all of " if load.everywhere else "to "
    return f"{load.count:,} transactions{over}, {to}{name_nodes(load.to)}"


def _crash(crash: "words.Crash") -> str:
    count = f" when that has come {crash.count} times" if crash.count > 1 else ""
    when = " at the end of its epoch" if crash.at_the_end else ""
    back = "" if crash.down_ms is None else f"; it starts again {crash.down_ms:,} ms later"
    return f"{_name(crash.node)} {_POINTS[crash.point]}{when}{count}{back}"


def _weather(conditions: Conditions) -> str:
    shares = {
        "are lost": conditions.loss,
        "come twice": conditions.duplication,
        "are late": conditions.reordering,
    }
    told = [f"{share:.0%} {name}" for name, share in shares.items() if share]
    latency = f"messages take {conditions.min_latency_ms} to {conditions.max_latency_ms} ms"
    return ", ".join([latency, *told])
