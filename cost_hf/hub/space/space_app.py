"""The app of a Hub Space; `demo.json` names the repository of its recommender."""

from cost_hf.files import read_object
from cost_hf.hub.space.app import launch_demo

name = read_object("demo.json").get("recommender")
if not isinstance(name, str):
    raise ValueError(f"demo.json names no recommender: expected its repository (org/name), got {name!r:.80}")
launch_demo(name, host="0.0.0.0", port=7860)
