"""Publishing, exports and serving of finished runs; the names of parts and formats, readable without torch."""

PARTS = ("quantizer", "dataset", "recommender", "space")  # in the order in which they are published
SUFFIXES = {"quantizer": "", "recommender": "-recommender", "dataset": "-items", "space": "-demo"}
REPO_TYPES = {"quantizer": "model", "recommender": "model", "dataset": "dataset", "space": "space"}
WEIGHTS = ("adapter", "merged")  # forms of a LoRA run
MERGED = "merged"
FORMATS = ("parquet", "flashrec", "nvidia-jsonl", "static", MERGED)  # of an export
