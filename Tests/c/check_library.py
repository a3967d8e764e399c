#!/usr/bin/env python3
"""What must hold of libllmpool.so as a file: LIBRARY HEADER VERSION_NODE SONAME."""
import re
import subprocess
import sys

LIBRARY, HEADER, NODE, SONAME = sys.argv[1:]
SYSTEM_LIBRARIES = re.compile(
    r"^(lib(c|m|stdc\+\+|gcc_s|curl|nghttp2|ssl|crypto|pthread|dl|rt)\.so\.[0-9.]+|ld-linux.*)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared():
    """The functions of the header, read by another way than the version script: through the preprocessor."""
    text = run("cc", "-E", "-P", HEADER)
    text = text[text.index("typedef int32_t llmpool_status_t;"):]
    return set(re.findall(r"\b(llmpool_\w+)\s*\(", text))


def exported():
    symbols = [line.split()[-1] for line in run("nm", "-D", "--defined-only", LIBRARY).splitlines()]
    return {symbol for symbol in symbols if symbol != f"{NODE}@@{NODE}" and symbol != NODE}


def main():
    problems = []
    expected = {f"{name}@@{NODE}" for name in declared()}
    if len(expected) < 20:
        problems.append(f"only {len(expected)} functions found in {HEADER}")
    for name in sorted(expected - exported()):
        problems.append(f"declared, not exported: {name}")
    for name in sorted(exported() - expected):
        problems.append(f"exported, not declared: {name}")
    dynamic = run("readelf", "-dW", LIBRARY)
    if f"[{SONAME}]" not in dynamic:
        problems.append(f"the soname is not {SONAME}")
    if not re.search(r"FLAGS_1\).*NODELETE", dynamic):
        problems.append("not marked -z nodelete")
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        problems.append("has a run path")
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if not SYSTEM_LIBRARIES.match(name):
            problems.append(f"needs {name}")
    for line in run("ldd", LIBRARY).splitlines():
        if "libswift" in line or "not found" in line:
            problems.append(line.strip())
    needed = run("nm", "-D", "--undefined-only", LIBRARY)
    if re.search(r" U hypotf\b", needed):
        problems.append("needs hypotf, which is of glibc 2.35 (cmake/hypotf.c)")
    if re.search(r" U nghttp2_option_set_no_rfc9113", needed):
        problems.append("needs an option that nghttp2 has since 1.50 alone (CLLMPoolSystem/system.c)")
    if b"/swift/debug/" in open(LIBRARY, "rb").read():
        problems.append("holds paths of the machine that built it")
    print("\n".join(problems) or "as it should be")
    return 1 if problems else 0


sys.exit(main())
