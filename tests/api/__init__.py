"""The REST contract over HTTP, on both databases and a real broker; no worker runs here."""
