"""The operator's verbs, one file each."""
