"""The product: everything but training; this package never loads TensorFlow."""
