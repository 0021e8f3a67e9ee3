"""TLS session ticket keys shared by all backends (RFC 5077)."""
