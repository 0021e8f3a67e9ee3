"""What a balancer should do: its pools, its addresses, its limits."""
