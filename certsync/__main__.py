"""`python -m certsync`."""

from certsync.cli import main

main()
