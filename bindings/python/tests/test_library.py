"""Finding and checking the library. Each case needs a process of its own."""

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import servers

from llmpool._native import library, system
from llmpool._native.library import lib

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def build(directory, name, source, *options):
    directory.mkdir(exist_ok=True)
    (directory / "source.c").write_text(source)
    path = directory / name
    command = ["cc", "-shared", "-fPIC", "-o", str(path), str(directory / "source.c"), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path


def functions_of(*paths):
    """The names that libraries export."""
    command = ["nm", "-D", "--defined-only", "--without-symbol-versions", *paths]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"^\w+ T (\w+)$", listed, re.M)))


def test_already_loaded_comes_before_the_environment(run_python, tmp_path):
    """As when a C library of the process links to libllmpool."""
    other = tmp_path / library.SONAME
    shutil.copy(lib.path, other)
    done = run_python(
        "import ctypes, sys; ctypes.CDLL(sys.argv[1]); import llmpool._native.library as l;"
        "print(l.loaded_from())",
        other,
        LLMPOOL_LIBRARY=lib.path,
    )
    assert done.stdout.strip() == str(other), done.stderr


def test_import_is_quick(run_python):
    """What takes long is imported by those who use it."""
    done = run_python(
        "import sys; before = set(sys.modules); import llmpool; llmpool.Client();"
        "print(*sorted(set(sys.modules) - before));"
        "print(llmpool.AsyncClient.__module__, llmpool.stats().submitted);"
        "assert set(llmpool.__all__) <= set(dir(llmpool)); from llmpool import *;"
        "print(AsyncStreamResponse, Timings)"
    )
    new, *lines = done.stdout.splitlines()
    slow = {"asyncio", "dataclasses", "datetime", "http", "inspect", "logging", "mimetypes"}
    assert not slow & set(new.split())
    assert "llmpool._client.client" in new
    assert lines == [
        "llmpool 0",
        "<class 'llmpool.AsyncStreamResponse'> <class 'llmpool.Timings'>",
    ], done.stderr


def test_both_see_one_pool(run_python, tmp_path):
    done = run_python(
        "import ctypes, sys\n"
        "c = ctypes.CDLL(sys.argv[1])\n"
        "pool = ctypes.c_void_p(); assert c.llmpool_shared(ctypes.byref(pool)) == 0\n"
        "import llmpool\n"
        "assert llmpool.shared()._handle == pool.value\n",
        lib.path,
    )
    assert done.returncode == 0, done.stderr


def test_environment_names_a_file_that_is_not_there(run_python, tmp_path):
    missing = tmp_path / "none.so"
    done = run_python("import llmpool", LLMPOOL_LIBRARY=str(missing))
    assert "ImportError" in done.stderr and str(missing) in done.stderr


@needs_compiler
def test_version_that_does_not_fit_names_the_path(run_python, tmp_path):
    # Every function, so that only the version is wrong.
    header = (Path(__file__).resolve().parents[3] / "include" / "llmpool.h").read_text()
    names = set(re.findall(r"\b(llmpool_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    names.discard("llmpool_version")
    source = "unsigned llmpool_version(void) { return 9 << 16 | 8 << 8 | 7; }\n" + "".join(
        f"int {name}(void) {{ return -2; }}\n" for name in sorted(names)
    )
    other = build(tmp_path / "b", "libother.so", source)
    done = run_python("import llmpool", LLMPOOL_LIBRARY=str(other))
    assert f"ImportError: {other} is libllmpool 9.8.7" in done.stderr


@needs_compiler
def test_a_library_without_our_functions_names_one(run_python, tmp_path):
    other = build(tmp_path / "b", "libother.so", "unsigned llmpool_version(void) { return 256; }")
    done = run_python("import llmpool", LLMPOOL_LIBRARY=str(other))
    assert "ImportError" in done.stderr and str(other) in done.stderr
    assert "llmpool_" in done.stderr.rsplit("ImportError", 1)[1]


@needs_compiler
def test_missing_system_libraries_are_named_with_their_packages(tmp_path, monkeypatch):
    """All of them, as in a container that has only Python: the loader names the first alone."""
    build(tmp_path / "a", "libabsent.so", "int absent;", "-Wl,-soname,libabsent.so.9")
    other = build(
        tmp_path / "b", "libother.so", "extern int absent; int *p = &absent;",
        f"-L{tmp_path / 'a'}", "-labsent",
    )  # fmt: skip
    names = ("absent", "more")
    absent = {f"lib{name}.so.9": system.Packages(f"lib{name}9", name) for name in names}
    monkeypatch.setattr(system, "PACKAGES", {**system.PACKAGES, **absent})
    with pytest.raises(ImportError) as caught:
        library._open(str(other), ctypes.DEFAULT_MODE)
    assert str(caught.value) == (
        "llmpool needs libabsent.so.9 and libmore.so.9, which this system lacks; "
        "on Debian and Ubuntu: apt install libabsent9 libmore9; "
        f"on RHEL, Fedora and Amazon Linux: dnf install absent more ({other})"
    )


@needs_compiler
def test_a_package_is_known_for_all_that_the_library_needs():
    done = subprocess.run(["readelf", "-dW", lib.path], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", done.stdout))
    glibc = {name for name in needed if re.match(r"(lib[cm]|ld-linux[-\w]*)\.so", name)}
    assert needed - glibc == set(system.PACKAGES)


# ---- beside an OpenSSL that is not the library's

CALL = """
import sys
import llmpool
with llmpool.Pool(ca_file=sys.argv[2]) as pool:
    key = {"authorization": f"Bearer {sys.argv[3]}"}
    client = llmpool.Client(base_url=sys.argv[1], headers=key, pool=pool)
    print(client.get("/v1/models").raise_for_status().http_version)
"""


# Of ELF-64: types of sections, tags of the dynamic one.
DYNAMIC, DYNSYM, VERSYM = 6, 11, 0x6FFFFFFF
VERDEF, VERDEFNUM, DEBUG = 0x6FFFFFFC, 0x6FFFFFFD, 21


def without_versions(path):
    """The library as if it had been linked without a version script."""
    data = bytearray(Path(path).read_bytes())
    (table,), (size, count) = (
        struct.unpack_from("<Q", data, 40),
        struct.unpack_from("<HH", data, 58),
    )
    sections = (struct.unpack_from("<IIQQQQ", data, table + size * at) for at in range(count))
    places = {kind: (offset, length) for _, kind, _, _, offset, length in sections}
    symbols, length = places[DYNSYM]
    for index in range(length // 24):
        (section,) = struct.unpack_from("<H", data, symbols + 24 * index + 6)
        place = places[VERSYM][0] + 2 * index
        if section and struct.unpack_from("<H", data, place)[0] > 1:
            struct.pack_into("<H", data, place, 1)  # defined here, and global
    start, length = places[DYNAMIC]
    for place in range(start, start + length, 16):
        if struct.unpack_from("<Q", data, place)[0] in (VERDEF, VERDEFNUM):
            struct.pack_into("<Q", data, place, DEBUG)  # which is ignored in a library
    return bytes(data)


def test_a_libcurl_without_versions(run_python, tmp_path, mock):
    """As RHEL's, and as one that is built by hand: its functions are in no CURL_OPENSSL_4."""
    with open("/proc/self/maps") as maps:
        path = re.search(r"/\S*/libcurl\.so\.4\S*$", maps.read(), re.M)[0]
    other = tmp_path / "libcurl.so.4"
    other.write_bytes(without_versions(path))
    if shutil.which("nm"):
        command = ["nm", "-D", other]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r" T curl_easy_init$", listed, re.M)
    script = CALL + "print([line for line in open('/proc/self/maps') if 'libcurl' in line][0])"
    arguments = (mock.url, mock.ca_file, mock.api_key)
    done = run_python(script, *arguments, LD_LIBRARY_PATH=str(tmp_path))
    assert done.stdout.startswith("HTTP/2\n") and str(other) in done.stdout and not done.stderr


@pytest.fixture(scope="module")
def foreign_source():
    """Every function of OpenSSL, each of which ends the process."""
    with open("/proc/self/maps") as maps:
        paths = set(re.findall(r"(/\S*/lib(?:ssl|crypto)\.so\.3)$", maps.read(), re.M))
    assert len(paths) == 2
    names = functions_of(*paths)
    assert {"SSL_CTX_new", "BIO_new", "EVP_sha256"} <= {*names}
    aliases = "".join(
        f'__asm__(".globl {name}\\n.type {name}, @function\\n.set {name}, foreign");\n'
        for name in names
    )
    return f"""
#include <stdio.h>
#include <stdlib.h>
void foreign(void) {{ fputs("a foreign OpenSSL was called\\n", stderr); abort(); }}
{aliases}"""


@pytest.fixture
def foreign(tmp_path, foreign_source):
    return build(tmp_path / "b", "libforeign.so", foreign_source)


@needs_compiler
def test_a_foreign_openssl_is_not_called(run_python, foreign, mock):
    done = run_python(CALL, mock.url, mock.ca_file, mock.api_key, LD_PRELOAD=str(foreign))
    assert (done.stdout, done.stderr) == ("HTTP/2\n", "")


@needs_compiler
def test_an_interpreter_with_an_openssl_of_its_own(tmp_path, foreign_source, mock):
    """As python-build-standalone, which uv installs: the executable exports OpenSSL, and has its
    own copy of `environ`."""
    source, program = tmp_path / "python.c", tmp_path / "python"
    source.write_text(
        foreign_source + "extern char **environ;\nint Py_BytesMain(int, char **);\n"
        "int main(int argc, char **argv) { return environ ? Py_BytesMain(argc, argv) : 99; }\n"
    )
    where, name = (sysconfig.get_config_var(each) for each in ("LIBDIR", "INSTSONAME"))
    command = ["cc", "-rdynamic", "-o", program, source, f"-L{where}", f"-l:{name}"]
    done = subprocess.run([*command, f"-Wl,-rpath,{where}"], capture_output=True, text=True)
    if done.returncode and f"cannot find -l:{name}" in done.stderr:
        pytest.skip(f"no {name} to embed")
    assert done.returncode == 0, done.stderr
    relocations = ["readelf", "-rW", program]
    assert "R_X86_64_COPY" in subprocess.run(relocations, capture_output=True, text=True).stdout
    environment = {
        **os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": servers.python_path(),
    }  # fmt: skip
    done = subprocess.run(
        [program, "-c", CALL, mock.url, mock.ca_file, mock.api_key],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("HTTP/2\n", "")


@needs_compiler
@pytest.mark.parametrize("early", ["libcrypto.so.3", "libcurl.so.4", library.SONAME])
def test_what_a_foreign_openssl_has_taken_before_is_refused(run_python, foreign, early):
    script = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); import llmpool"
    name = lib.path if early == library.SONAME else early
    done = run_python(script, name, LD_PRELOAD=str(foreign))
    assert f"ImportError: {foreign} exports an OpenSSL of its own" in done.stderr
    assert early in done.stderr and "import llmpool first" in done.stderr


@needs_compiler
def test_a_foreign_openssl_beside_a_foreign_malloc_is_refused(run_python, foreign, tmp_path):
    """As jemalloc, preloaded: memory would go back to another allocator than it came from."""
    malloc = build(
        tmp_path / "c", "libmalloc.so",
        "#include <stddef.h>\nvoid *__libc_malloc(size_t), *__libc_memalign(size_t, size_t);\n"
        "void *malloc(size_t size) { return __libc_malloc(size); }\n"
        "void *aligned_alloc(size_t a, size_t size) { return __libc_memalign(a, size); }",
    )  # fmt: skip
    done = run_python("import llmpool", LD_PRELOAD=f"{malloc} {foreign}")
    assert "ImportError" in done.stderr and f"{malloc} a malloc" in done.stderr
    assert run_python("import llmpool", LD_PRELOAD=str(malloc)).returncode == 0


@needs_compiler
def test_an_openssl_of_its_own_is_no_foreign_one(run_python, tmp_path):
    """As in a wheel repaired by auditwheel, whose library links to libssl-59d05945.so.3."""
    own = build(
        tmp_path, "libssl-59d05945.so.3", "void *SSL_CTX_new(void *m) { return 0; }",
    )  # fmt: skip
    done = run_python(
        "import ctypes, sys; ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)\n"
        "assert ctypes.CDLL(None).SSL_CTX_new(None) == 0\n"
        "from llmpool._native import system; print([system.foreign_openssl()])",
        own,
    )
    assert done.stdout == "['']\n", done.stderr
