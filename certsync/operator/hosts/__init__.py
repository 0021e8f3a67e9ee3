"""What the operator's machine asks hosts, and brings to them."""
