"""The REST interface: the only place that knows FastAPI and HTTP."""
