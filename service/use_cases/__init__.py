"""Everything the service can do, one function each: the table of contents of the product."""
