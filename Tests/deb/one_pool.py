"""one_pool.py LIBRARY c|python - the library of one_pool.c and the Python package see one pool, whichever is loaded
first. Prints the file of the libllmpool that they share."""
import ctypes
import sys


def by_c():
    library = ctypes.CDLL(sys.argv[1])
    library.one_pool.restype = ctypes.c_void_p
    return library.one_pool()


def by_python():
    from llmpool._native.library import lib

    pool = ctypes.c_void_p()
    assert lib.shared(ctypes.byref(pool)) == 0
    return pool.value


pools = {by_c(), by_python()} if sys.argv[2] == "c" else {by_python(), by_c()}
with open("/proc/self/maps") as maps:
    files = {line.split()[-1] for line in maps if "libllmpool.so" in line}
assert len(pools) == len(files) == 1 and None not in pools, (pools, files)
print(*files)
