"""What all machines share: values and decisions, without I/O or a clock."""
