"""What a balancer is to do: its pools, its addresses, its limits."""
