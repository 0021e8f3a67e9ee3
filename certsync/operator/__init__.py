"""What runs on an operator's machine; it knows the issuer only through SSH."""
