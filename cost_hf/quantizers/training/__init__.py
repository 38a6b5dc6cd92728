"""Training shared by quantizers: the trainer with its callbacks, and k-means. All of it needs torch."""
