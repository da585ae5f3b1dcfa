"""Every line of "Bad input that must be answered, never crash" in the guarantees, item by item, a module for each."""
