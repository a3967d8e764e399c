"""Runs the cases named (all by default), each client in turn, several rounds, and writes results/NAME.json."""

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import report
from cases import CASES, HERE

BUSY_SECONDS = 1800  # of CPU, at most, should nobody end it


class Skip(Exception):
    pass


def run(command):
    """Runs one client to its end; its output, and the CPU that it and its start-up took, in microseconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        start = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        text, problem = out.read(), err.read()
    if process.returncode:
        raise Skip((problem.strip() or text.strip() or f"ended with {process.returncode}").splitlines()[-1])
    if "nan" in text:
        raise Skip("nothing was measured")
    return text, (usage.ru_utime + usage.ru_stime) * 1e6, wall


def from_h2load(text, cpu, wall):
    done = re.search(r"(\d+) succeeded, (\d+) failed", text)
    rate = re.search(r"finished in ([\d.]+)(ms|s), ([\d.]+) req/s", text)
    if int(done[2]) or not re.search(r"status codes: %s 2xx" % done[1], text):
        raise Skip("h2load: not every answer was 200")
    return {"count": int(done[1]), "cpu_us": cpu / int(done[1]), "per_second": float(rate[3])}


def from_wrk(text, cpu, wall):
    done = re.search(r"(\d+) requests in", text)
    if "Non-2xx" in text or "Socket errors" in text:
        raise Skip("wrk: not every answer was 200")
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text)[1])
    return {"count": int(done[1]), "cpu_us": cpu / int(done[1]), "per_second": rate}


def measure(command, whole):
    text, cpu, wall = run(command)
    if command[0] == "h2load":
        return from_h2load(text, cpu, wall)
    if command[0] == "wrk":
        return from_wrk(text, cpu, wall)
    result = json.loads(text.splitlines()[-1])
    if whole:
        result["cpu_inside_us"], result["cpu_us"] = result["cpu_us"], cpu / result["total"]
    return result


@contextlib.contextmanager
def busy_loop():
    """One process that wants a core for itself, at normal priority, for as long as the block lasts."""
    process = subprocess.Popen(["sh", "-c", f"ulimit -t {BUSY_SECONDS}; while :; do :; done"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_case(name, case, rounds):
    print(f"\n{name}: {case.title}", flush=True)
    results, skipped = {label: [] for label in case.clients}, {}
    with case.server() as server:
        for number in range(rounds):
            # Every other round runs backwards, so that none always follows the same one.
            for label, command in list(case.clients.items())[:: 1 if number % 2 == 0 else -1]:
                if label in skipped:
                    continue
                try:
                    result = measure([part.format(**server) for part in command], case.whole)
                except Skip as reason:
                    skipped[label] = str(reason)
                    print(f"  {label}: skipped: {reason}", flush=True)
                    continue
                results[label].append(result)
    results = {label: measured for label, measured in results.items() if measured and label not in skipped}
    clients = {label: summary(measured) for label, measured in results.items()}
    for label, client in clients.items():
        print("  " + report.line(label, client, case), flush=True)
    head = {"name": name, "title": case.title, "rounds": rounds}
    return {**head, "clients": clients, "skipped": skipped, "runs": results}


def summary(runs):
    """Of each figure the median and the least and greatest of the rounds."""
    figures = {}
    for figure in sorted(set().union(*runs)):
        values = [run[figure] for run in runs if figure in run]
        figures[figure] = [round(f(values), 3) for f in (statistics.median, min, max)]
    return figures


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    return {
        "cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
        "python": platform.python_version(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="of: " + " ".join(CASES))
    parser.add_argument("--beside", action="store_true", help="beside a busy loop; by default what docs/performance.md "
                        "tells of that")
    parser.add_argument("--rounds", type=int, default=0, help="instead of each case's own number")
    parser.add_argument("--report", action="store_true", help="run nothing: draw docs/performance.md from the results")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(CASES):
        parser.error("no such case: " + " ".join(sorted(unknown)))
    (HERE / "results").mkdir(exist_ok=True)
    by_default = [] if arguments.report else [name for name in CASES if CASES[name].beside or not arguments.beside]
    with busy_loop() if arguments.beside else contextlib.nullcontext():
        for name in arguments.names or by_default:
            case = CASES[name]
            result = {"machine": machine(), **run_case(name, case, arguments.rounds or case.rounds)}
            for limit in case.limits:
                print("  " + report.verdict(limit, result["clients"], arguments.beside)[-1])
            if not arguments.dry:
                path = report.path(name, arguments.beside)
                path.write_text(json.dumps(result, indent=1) + "\n")
    if not arguments.dry:
        report.write()


if __name__ == "__main__":
    sys.exit(main())
