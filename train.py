"""accelerate launch train.py --recipe cost_quickstart [--section.field value …]"""

import sys

from cost_hf.experiments.commands import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
