"""The page at /: what the service can do, for people; it asks nothing that the API does not answer."""
