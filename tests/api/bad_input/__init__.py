"""Bad input that must be answered and never breaks anything: a module for each kind of it."""
