"""Drift: whether new items and clicks are still like those that a recommender was trained on."""
