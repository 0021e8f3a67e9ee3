"""Code that runs on the issuer, the one machine that talks to the CA."""
