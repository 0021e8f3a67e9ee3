"""`python -m certsync`."""

from certsync.main import main

main()
