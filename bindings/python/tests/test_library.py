"""Finding and checking the library. Each case needs a process of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from llmpool._native import library
from llmpool._native.library import lib

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


def build(directory, name, source, *options):
    directory.mkdir(exist_ok=True)
    (directory / "source.c").write_text(source)
    path = directory / name
    command = ["cc", "-shared", "-fPIC", "-o", str(path), str(directory / "source.c"), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path


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
    import re

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
def test_missing_system_library_names_the_debian_package(tmp_path, monkeypatch):
    build(tmp_path / "a", "libabsent.so", "int absent;", "-Wl,-soname,libabsent.so.9")
    other = build(
        tmp_path / "b", "libother.so", "extern int absent; int *p = &absent;",
        f"-L{tmp_path / 'a'}", "-labsent",
    )  # fmt: skip
    monkeypatch.setitem(library.DEBIAN_PACKAGES, "libabsent.so.9", "libabsent9")
    with pytest.raises(ImportError) as caught:
        library._open(str(other))
    assert "libabsent.so.9" in str(caught.value)
    assert "apt install libabsent9" in str(caught.value)
    assert str(other) in str(caught.value)


@pytest.mark.parametrize(
    "name, package",
    [
        ("libcurl.so.4", "libcurl4"),
        ("libnghttp2.so.14", "libnghttp2-14"),
        ("libssl.so.3", "libssl3"),
    ],
)
def test_packages_of_what_the_library_needs(name, package):
    error = OSError(f"{name}: cannot open shared object file: No such file or directory")
    with pytest.raises(ImportError, match=f"apt install {package} "):
        library._fail(f"/somewhere/{library.SONAME}", error)


@needs_compiler
def test_a_foreign_openssl_is_refused(run_python, tmp_path):
    foreign = build(tmp_path / "b", "libforeign.so", "void *SSL_CTX_new(void *m) { return 0; }")
    done = run_python("import llmpool", LD_PRELOAD=str(foreign))
    assert f"ImportError: {foreign} exports an OpenSSL" in done.stderr


@needs_compiler
@pytest.mark.parametrize("global_first", [False, True])
def test_an_openssl_of_its_own_is_no_foreign_one(run_python, tmp_path, global_first):
    """As in a wheel repaired by auditwheel, whose library links to libssl-59d05945.so.3."""
    build(
        tmp_path, "libssl-59d05945.so.3", "void *SSL_CTX_new(void *m) { return 0; }",
        "-Wl,-soname,libssl-59d05945.so.3",
    )  # fmt: skip
    repaired = build(
        tmp_path, "librepaired.so",
        "void *SSL_CTX_new(void *); void *use(void) { return SSL_CTX_new(0); }",
        f"-L{tmp_path}", "-l:libssl-59d05945.so.3", f"-Wl,-rpath,{tmp_path}",
    )  # fmt: skip
    done = run_python(
        "import ctypes, sys; from llmpool._native import library\n"
        "mode = ctypes.RTLD_GLOBAL if sys.argv[2] else ctypes.RTLD_LOCAL\n"
        "library._check_openssl(ctypes.CDLL(sys.argv[1], mode=mode), sys.argv[1])",
        repaired,
        "global" if global_first else "",
    )
    assert done.returncode == 0, done.stderr
