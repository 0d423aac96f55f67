"""The service without Python's garbage collector: what waits for that, it never closes.

python -m tests.bed.faults.uncollected serve FLAG...
"""

from __future__ import annotations

import gc
import sys

from ocigrpc.cli.main import main

if __name__ == "__main__":
    gc.disable()
    sys.exit(main(sys.argv[1:]))
