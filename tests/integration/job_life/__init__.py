"""The life of a job in the database, on both systems; time is moved by changing the stored lease."""
