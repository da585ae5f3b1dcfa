"""What every request passes before a route sees it: who asks, how often, how much, and how long it may take."""
