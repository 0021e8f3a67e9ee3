"""What runs on the one machine that talks to the CA."""
