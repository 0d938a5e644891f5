import os
import sys
from pathlib import Path

# Tiny models gain nothing from threads and lose a lot to them where tests run side by side; set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
