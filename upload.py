"""python upload.py RUN --namespace ORG [--what quantizer,recommender,dataset,space] [--dry-run]"""

import sys

from cost_hf.hub.commands import upload_main

if __name__ == "__main__":
    sys.exit(upload_main(sys.argv[1:]))
