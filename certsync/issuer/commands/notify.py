"""`certsync notify`, on the issuer: where messages go, and whether they arrive."""

from __future__ import annotations

from certsync.issuer.monitoring import notification
from certsync.issuer.monitoring.alerts import Message
from certsync.issuer.store import Store
from certsync.model.errors import NotifyError


def set_urls(store: Store, content: bytes) -> str:
    """Save URLs, one per line, and return a summary for people.

    Raises:
        NotifyError: there is none, or one that apprise does not understand; nothing is changed.
        StoreError: this host is not an issuer.
    """
    fleet = store.fleet()
    count = notification.keep(store, content)
    kept = f"{count} service{'' if count == 1 else 's'} in {store.notify_urls}"
    if not fleet.notify.events:
        return f"{kept}; nothing is sent until `events` are set under [notify] in the fleet file"
    return f"{kept}; test it: certsync notify --test"


def test(store: Store) -> tuple[str, list[str]]:
    """Send a test message to every service.

    Returns:
        A summary for people, and the services that did not accept it.

    Raises:
        NotifyError: no URL is set, or apprise is not installed.
        StoreError: this host is not an issuer.
    """
    fleet = store.fleet()
    services = notification.read(store)
    if not services:
        raise NotifyError("no URL is set", f"`{notification.SET}`")
    message = Message(
        f"{fleet.name}: a test message",
        f"certsync on {fleet.issuer_name} can reach you. Nothing is wrong.",
        good=True,
    )
    accepted = {str(each): notification.accepts(each, message) for each in services}
    lines = [f"{name}: {'accepted' if good else 'not accepted'}" for name, good in accepted.items()]
    lines.append(f"{sum(accepted.values())} of {len(accepted)} accepted the test message")
    return "\n".join(lines), [name for name, good in accepted.items() if not good]
