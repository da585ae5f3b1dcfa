"""Tables: files in, named columns out, stored as Parquet."""
