"""What is asked of the CA."""
