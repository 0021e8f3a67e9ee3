"""All I/O: programs, files, connections, the terminal."""
