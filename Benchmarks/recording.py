"""What counting costs: instructions of a request and of an event, by callgrind, with a library from which the recording
of statistics, histograms and reasons is left out, and with the one that is shipped. Builds both; needs valgrind."""

import re
import subprocess
import sys
from pathlib import Path

import servers
from cases import c_client

ROOT = Path(__file__).resolve().parent.parent
AT_MOST = 0.03
# Two runs, so that the start is left out: what is told is the difference.
FEW, MANY = 400, 2400
FEW_EVENTS, MANY_EVENTS = 20_000, 120_000


def build(name, *options):
    directory = ROOT / "build" / f"recording-{name}"
    off = ("LLMPOOL_BUILD_TESTS", "LLMPOOL_BUILD_EXAMPLES", "LLMPOOL_KEEP_SYMBOLS")  # symbols valgrind cannot read
    more = [*(f"-D{name}=OFF" for name in off), *options]
    subprocess.run(["cmake", "-B", directory, "-G", "Ninja", *more], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", directory], check=True, stdout=subprocess.DEVNULL)
    return directory


def instructions(library, command):
    """Of the whole process."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--fair-sched=yes", *command],
        env={"LD_LIBRARY_PATH": str(library)}, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"recording: {' '.join(command)}: {done.stderr[-2000:]}")
    return int(found[1])


def cost(library, command, few, many):
    """Instructions of one. The least of three: who has to wait goes round a loop more often."""
    costs = []
    for _ in range(3):
        low, high = (instructions(library, command(count)) for count in (few, many))
        costs.append((high - low) / (many - few))
    return min(costs)


def works(nginx, nghttpd):
    def posts(url, connections, streams, *rest, in_flight=16):
        return lambda count: c_client("async", url, count, in_flight, connections, streams, *rest)

    def events(count):
        return c_client("events", nginx["events"], count, 4, 4, 1, body=0)

    yield "POST over HTTP/1.1, 16 in flight", posts(nginx["url"], 16, 1), FEW, MANY
    yield "POST over HTTP/2 and TLS, 16 in flight", posts(nghttpd["url"], 1, 100, nghttpd["ca"]), FEW, MANY
    yield "one POST after another over HTTP/1.1", posts(nginx["url"], 1, 1, in_flight=1), FEW, MANY
    yield "an event of 4 streams as fast as they come", events, FEW_EVENTS, MANY_EVENTS


def main():
    shipped, bare = build("with"), build("without", "-DLLMPOOL_NO_RECORDING=ON")
    is_met = True
    with servers.nginx() as nginx, servers.nghttpd() as nghttpd:
        for what, command, few, many in works(nginx, nghttpd):
            without, with_it = (cost(library, command, few, many) for library in (bare, shipped))
            share = with_it / without - 1
            is_met = is_met and share <= AT_MOST
            print(f"{what}: {without:,.0f} instructions without, {with_it:,.0f} with, {share:+.2%}", flush=True)
    print(f"at most {AT_MOST:.0%}: {'reached' if is_met else 'not reached'}")


if __name__ == "__main__":
    sys.exit(main())
