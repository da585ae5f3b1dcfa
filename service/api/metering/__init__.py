"""What /metrics tells: of requests, of predictions, of refusals, of this process and of everybody's jobs."""
