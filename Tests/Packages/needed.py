"""Lists the libraries that a program needs, read from its dynamic section (ELF, 64 bits, little-endian).

usage: needed.py PROGRAM
"""

import struct
import sys


def needed(data):
    assert data[:6] == b"\x7fELF\x02\x01", "expected a program of 64 bits"
    start, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", data, start + index * size) for index in range(count)]

    def offset(address):
        return next(s[2] + address - s[3] for s in segments if s[0] == 1 and s[3] <= address < s[3] + s[5])

    dynamic = next(segment for segment in segments if segment[0] == 2)
    entries = [struct.unpack_from("<QQ", data, dynamic[2] + at) for at in range(0, dynamic[5], 16)]
    strings = offset(next(value for tag, value in entries if tag == 5))
    return [data[strings + value:data.index(b"\0", strings + value)].decode() for tag, value in entries if tag == 1]


print("\n".join(needed(open(sys.argv[1], "rb").read())))
