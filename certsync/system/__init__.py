"""The only doors out of the process: programs, files, connections, the terminal."""
