"""Serving: the log of requests, and what it shows about the models that answered them."""
