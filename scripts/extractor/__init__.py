"""What is declared once, read there and written wherever else it is needed. The command is scripts/extract."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = ROOT / "include" / "llmpool.h"
PACKAGE = ROOT / "bindings" / "python" / "llmpool"
