"""How a generation gets to every backend, and when it may go live."""
