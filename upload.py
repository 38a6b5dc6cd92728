"""python upload.py RUN --namespace ORG [--what quantizer,recommender,dataset,space] [--dry-run]"""

import sys

from cost_hf.hub.upload import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
