"""gguf-py's (de)quantisation, in GB of float32 per second on one thread."""
import statistics
import time

import gguf
import numpy

values = ((numpy.arange(1 << 22, dtype=numpy.uint64) * 2_654_435_761) % 100_003 / 50_000 - 1).astype(numpy.float32)
values = values.reshape(-1, 256)


def rate(work):
    times = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return values.nbytes / 1e9 / statistics.median(times[1:])


for name in ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
    kind = gguf.GGMLQuantizationType[name]
    blocks = gguf.quantize(values, kind)
    print(f"gguf-py, encode {name}\t{rate(lambda: gguf.quantize(values, kind))}\tGB/s")
    print(f"gguf-py, decode {name}\t{rate(lambda: gguf.dequantize(blocks, kind))}\tGB/s")
