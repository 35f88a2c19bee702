"""Measures how long a program takes to say its version, median of fifty, and holds it against ten milliseconds.

usage: start.py PROGRAM
"""

import os
import statistics
import subprocess
import sys
import time


def seconds(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


program = sys.argv[1]
found, bare = [], []
for _ in range(50):
    found.append(seconds(program, "--version"))
    bare.append(seconds("/bin/true"))
median = statistics.median(found) - statistics.median(bare)
print(f"{'ok' if median <= 0.01 else 'slow'}  starts in {median * 1e3:.1f} ms beyond /bin/true ({statistics.median(bare) * 1e3:.1f} ms)")
# On a machine that does other things, too, nothing follows from a slow start.
if median > 0.01 and os.getloadavg()[0] < os.cpu_count() / 2:
    sys.exit(1)
