"""A picture of the viewer: two evaluations side by side, in a browser's window (needs Chromium and pillow).

python bench/_screenshot.py docs/assets/viewer.png [--size 1360x750] [--address "pair=1&turn=3"]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = (
    "aem-eval run aem/ALFWorld-v0 -m random -n 24 --out runs/random",
    "aem-eval run aem/ALFWorld-v0 -m expert-search -n 24 --out runs/expert",
    "aem-eval view runs/random runs/expert --no-browser --out page.html",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="1360x750", help="of the window")
    parser.add_argument("--address", default="", help="what the page shows, as after # in its address")
    options = parser.parse_args()

    from PIL import Image

    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            subprocess.run(command.split(), cwd=folder, env=environment, check=True)
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        browser += [f"--user-data-dir={folder}/browser", f"--window-size={options.size.replace('x', ',')}"]
        browser += [f"--screenshot={folder}/page.png", f"file://{folder}/page.html#{options.address}"]
        subprocess.run(browser, check=True, timeout=120, stderr=subprocess.DEVNULL)
        image = Image.open(f"{folder}/page.png").convert("RGB").quantize(160)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        image.save(options.out, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
