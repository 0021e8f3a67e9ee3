"""Messages, metrics and the heartbeat."""
