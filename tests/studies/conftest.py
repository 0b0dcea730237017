"""The studies' scripts import each other by plain names, and so do their tests."""

import sys
from pathlib import Path

STUDIES = Path(__file__).resolve().parents[2] / "studies"
sys.path[:0] = [str(STUDIES), str(Path(__file__).parent)]
