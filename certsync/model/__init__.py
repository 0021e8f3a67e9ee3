"""What all machines agree on: values and decisions, no I/O and no clock."""
