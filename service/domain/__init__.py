"""Pure rules and values: numpy and pydantic, no input or output."""
