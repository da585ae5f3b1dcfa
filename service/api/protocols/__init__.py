"""Other people's wire formats: the registered models under the protocols that existing clients speak."""
