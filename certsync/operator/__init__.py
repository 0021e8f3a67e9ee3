"""What runs on the operator's machine. It reaches the issuer only over SSH."""
