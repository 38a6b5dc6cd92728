"""Item vectors that are learned from clicks: one folder a kind of `vectors.kind`, beside the text vectors of `data`."""
