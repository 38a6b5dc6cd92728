"""Serving: the server, which answers in batches and follows its directory, and the log of what it has shown."""
