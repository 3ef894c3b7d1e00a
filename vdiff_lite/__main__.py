"""python -m vdiff_lite: the commands of vdiff, for launchers such as `accelerate launch -m vdiff_lite`."""

import sys

from vdiff_lite.cli import main

sys.exit(main())
