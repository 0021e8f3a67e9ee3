"""A run of pyinfra's on a fleet's hosts: each is what a test says, and nothing is connected to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from pyinfra.api import Config, Host, Inventory, State
from pyinfra.context import ctx_host, ctx_state

from certsync.model.fleet import Fleet
from certsync.operator.hosts.survey import Survey
from deploy.answers import Answer
from deploy.surveys import Look


class Run:
    """pyinfra's own state and hosts. What they are asked is answered from what a test lays ready.

    ``like`` is what hosts are like, ``says`` what certsync on one answers to its words, both by the
    host's name; ``unreached`` are the hosts that do not answer.
    """

    def __init__(
        self,
        made: Fleet,
        like: Mapping[str, Survey] | None = None,
        *,
        says: Mapping[str, Any] | None = None,
        unreached: Collection[str] = (),
    ) -> None:
        self.like, self.says = dict(like or {}), dict(says or {})
        self.asked: list[tuple[str, str]] = []
        """Each host that was asked, and what: `look`, or the words for certsync there."""

        hosts = [(each.name, {"machine": each}) for each in made.machines]
        # Nothing is worked out when an operation is called, as in a run that nobody has to confirm.
        self.state = State(Inventory((hosts, {})), Config(), check_for_changes=False)  # type: ignore[no-untyped-call]  # pyinfra's own
        for host in self.state.inventory:
            host.get_fact = partial(self._answer, host.name)  # type: ignore[method-assign]  # asked here
            if host.name not in unreached:
                host.connected = True
                self.state.activate_host(host)

    def host(self, name: str) -> Host:
        """Return one of the hosts."""
        found: Host = self.state.inventory.get_host(name)
        return found

    def fail(self, *names: str) -> None:
        """Have this run fail on hosts."""
        self.state.active_hosts -= {self.host(name) for name in names}

    def called(
        self, name: str, operation: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> str:
        """Call an operation for a host, and return the hash by which pyinfra knows it."""
        with ctx_state.use(self.state), ctx_host.use(self.host(name)):
            operation(*arguments, **options)
        found: str = self.host(name).op_hash_order[-1]
        return found

    def commands(self, name: str, op_hash: str) -> list[str]:
        """Return the commands that an operation gives a host, once it is its turn."""
        data = self.state.ops[self.host(name)][op_hash]
        with ctx_state.use(self.state), ctx_host.use(self.host(name)):
            commands: Any = data.command_generator()
            return [each.get_raw_value() for each in commands]

    def _answer(self, name: str, fact: type[Any], **arguments: Any) -> Any:
        if fact is Look:
            self.asked.append((name, "look"))
            return self.like.get(name, Survey())
        [question] = [each for key, each in arguments.items() if key != "_timeout"]
        self.asked.append((name, question))
        said = self.says.get(name, fact.default())
        return said.get(question, {}) if fact is Answer else said
