"""TLS session ticket keys that all backends share (RFC 5077)."""
