"""The issuer's verbs, one file each."""
