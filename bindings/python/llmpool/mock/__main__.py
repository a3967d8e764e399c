"""python -m llmpool.mock"""

import sys

from ._command import main

sys.exit(main())
