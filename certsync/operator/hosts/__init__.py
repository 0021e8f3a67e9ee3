"""What the operator's machine reads from hosts and copies to them."""
