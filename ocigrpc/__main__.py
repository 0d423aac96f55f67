"""``python -m ocigrpc``: the same as the ``ocigrpc`` command."""

import sys

from ocigrpc.cli.main import main

sys.exit(main())
