"""`cost-hf serve`: answers requests over HTTP in batches, and follows the directory of its recommender."""
