"""Who is told what: messages, metrics, the heartbeat."""
