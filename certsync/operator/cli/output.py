"""Options and output shared by the commands that change something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from certsync.system import console

if TYPE_CHECKING:
    from certsync.operator.deployment.plan import Plan, Step

ADOPT_NGINX = click.option(
    "--adopt-nginx", is_flag=True, help="Take over nginx sites that certsync did not write."
)
ADOPT_HAPROXY = click.option(
    "--adopt-haproxy", is_flag=True, help="Take over a haproxy.cfg that certsync did not write."
)

ADOPT_BALANCER = click.option(
    "--adopt-balancer", is_flag=True,
    help="Take over what the provider's load balancer has on port 443, and its members.",
)  # fmt: skip
ACCEPT_GAP = click.option(
    "--accept-gap", is_flag=True,
    help="Let the provider's load balancer fail new connections while its port changes.",
)  # fmt: skip


def tell_plan(plan: Plan, as_json: bool) -> None:
    """Print a plan, for people or for programs."""
    if as_json:
        console.result_json(plan.to_json())
    else:
        console.result(plan.text())
    console.tell("dry run: nothing was changed, and nothing was asked of the CA")


@contextmanager
def done_as_json(as_json: bool) -> Iterator[list[Step]]:
    """Yield a list for the steps that were taken; print it as JSON at the end if asked to."""
    done: list[Step] = []
    try:
        with console.narrating() if as_json else nullcontext():
            yield done
    finally:
        if as_json:
            console.result_json({"done": [asdict(each) for each in done]})
