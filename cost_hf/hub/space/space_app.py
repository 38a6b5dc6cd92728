"""The app of a Hub Space: `demo.json` names the recommender's repository."""

import json
from pathlib import Path

from cost_hf.hub.space.app import launch_demo

launch_demo(json.loads(Path("demo.json").read_text(encoding="utf-8"))["recommender"], host="0.0.0.0", port=7860)
