"""``selfnorm``, the command line: runs the service, and talks to one that runs through ``service.client`` alone."""
