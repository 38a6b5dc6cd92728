"""Methods beside the semantic-ID generator: dense models that rank the catalog directly, on the same inputs."""
