"""Champions that answer over HTTP: Ray Serve, with FastAPI for the side of the clients."""
