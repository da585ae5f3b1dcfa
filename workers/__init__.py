"""Training: the only place that knows TensorFlow and Keras."""
