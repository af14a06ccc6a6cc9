#!/usr/bin/env python3
"""Run the README's console blocks exactly as they are written, so that they stay true.

usage: tour.py README.md [--folder DIR]

Every line that starts with `$ ` in a ```console block is a command (with its `\\` continuations); the lines
below it are the output it must print, where `…` stands for anything. All commands run in one shell, in the
README's folder, as a reader would. Three are special: `make run` and `make lab` are started and left running, each
until the other begins (`make run` with its data in a scratch folder, the lab in ./peerglass-lab, which is removed
afterwards), and `make test` is left out, because CI runs it on its own.
Prints one check a command and `N passed, N failed` at the end.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

READY_SECONDS_MAX = 1800  # `make run` may have to build first
COMMAND_SECONDS_MAX = 300
ADDRESS = ("127.0.0.1", 9292)
LEFT_OUT = ("make test",)
# What is started and left running, and how the line begins that says it is ready.
SERVERS = {"make run": "ready: ", "make lab": "lab: three nodes: "}
LAB = "peerglass-lab"


def steps(text):
    """The commands of all console blocks, each with its expected output lines."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        expects_more = False
        for line in block.splitlines():
            if expects_more:
                found[-1][0] += "\n" + line
                expects_more = line.endswith("\\")
            elif line.startswith("$ "):
                found.append([line[2:], []])
                expects_more = line.endswith("\\")
            elif line.strip() and found:
                found[-1][1].append(line)
    return [(command, output) for command, output in found]


def agrees(expected, said):
    """Whether the expected lines are the printed ones; `…` stands for anything, trailing blanks do not count."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    if len(lines) != len(expected):
        return False
    patterns = (".*".join(re.escape(piece) for piece in line.rstrip().split("…")) for line in expected)
    return all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines))


class Shell:
    """One bash that all commands share, so that `export` lasts."""

    def __init__(self, folder, scratch):
        self.scratch = scratch
        self.bash = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def run(self, command):
        """Returns (exit code, stdout, stderr)."""
        paths = {name: os.path.join(self.scratch, name) for name in ("out", "err", "code", "code.part")}
        if os.path.exists(paths["code"]):
            os.unlink(paths["code"])
        script = (
            f"{{ {command}\n}} >'{paths['out']}' 2>'{paths['err']}' </dev/null\n"
            f"echo $? >'{paths['code.part']}'; mv '{paths['code.part']}' '{paths['code']}'\n"
        )
        self.bash.stdin.write(script.encode())
        self.bash.stdin.flush()
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while not os.path.exists(paths["code"]):
            if time.monotonic() > deadline or self.bash.poll() is not None:
                return 124, "", "the command did not end, or ended the shell"
            time.sleep(0.02)
        read = {name: open(paths[name], encoding="utf-8", errors="replace").read() for name in ("out", "err", "code")}
        return int(read["code"]), read["out"], read["err"]

    def close(self):
        self.bash.stdin.close()
        try:
            self.bash.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.bash.kill()


def serve(command, expected, folder, scratch):
    """Start node or lab as the README says and wait for its ready line. Returns (process, complaint or None)."""
    environment = os.environ | {"PEERGLASS_DATA_DIR": os.path.join(scratch, "data")}
    log = os.path.join(scratch, "run")
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
    wanted = [line.replace("./peerglass-data", "…") for line in expected]
    deadline = time.monotonic() + READY_SECONDS_MAX
    said = ""
    while time.monotonic() < deadline:
        said = open(log, encoding="utf-8", errors="replace").read()
        ready = [line for line in said.splitlines() if line.startswith(SERVERS[command])]
        if ready:
            if agrees(wanted, ready[0]):
                return process, None
            return process, f"it said: {ready[0]}"
        if process.poll() is not None:
            break
        time.sleep(0.05)
    return process, f"no ready line; it said:\n{said[-1500:]}"


def end(process):
    """End what `serve` started: its whole process group, which is its own."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(timeout=60)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def end_lab(folder):
    """Kill what the reader started in the lab by himself, and remove it."""
    lab = os.path.join(folder, LAB)
    for name in os.listdir(lab) if os.path.isdir(lab) else []:
        lock = os.path.join(lab, name, "LOCK")
        pid = open(lock, encoding="ascii").read().strip() if os.path.exists(lock) else ""
        if pid and os.path.exists(f"/proc/{pid}/exe") and os.readlink(f"/proc/{pid}/exe").endswith("/peerglass"):
            os.kill(int(pid), signal.SIGKILL)
    shutil.rmtree(lab, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readme")
    parser.add_argument("--folder", default=None, help="where to put scratch files")
    options = parser.parse_args()
    folder = os.path.dirname(os.path.abspath(options.readme))
    passed = failed = 0
    lab_is_ours = not os.path.exists(os.path.join(folder, LAB))
    with tempfile.TemporaryDirectory(prefix="tour.", dir=options.folder) as scratch:
        shell, node = Shell(folder, scratch), None
        try:
            for command, expected in steps(open(options.readme, encoding="utf-8").read()):
                if command in LEFT_OUT:
                    continue
                if command in SERVERS:
                    if node is not None:
                        end(node)
                    with socket.socket() as probe:
                        taken = probe.connect_ex(ADDRESS) == 0
                    complaint = "port 9292 is taken: the tour needs it" if taken else None
                    if command == "make lab" and not lab_is_ours:
                        complaint = f"./{LAB} is there already: the tour needs the place"
                    if complaint is None:
                        node, complaint = serve(command, expected, folder, scratch)
                else:
                    code, said, errors = shell.run(command)
                    complaint = None
                    if code != 0:
                        complaint = f"exit code {code}\n{said[-600:]}{errors[-600:]}"
                    elif expected and not agrees(expected, said):
                        complaint = "wanted:\n" + "\n".join(expected) + f"\ngot:\n{said}"
                name = f"README: $ {command.splitlines()[0][:90]}"
                if complaint is None:
                    passed += 1
                    print(f"ok   {name}")
                else:
                    failed += 1
                    print(f"FAIL {name}")
                    print("\n".join(f"     | {line}" for line in complaint.splitlines()))
                sys.stdout.flush()
        finally:
            shell.close()
            if node is not None:
                end(node)
            if lab_is_ours:
                end_lab(folder)
    if passed == 0 and failed == 0:
        failed = 1
        print("FAIL README: it has no console block")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
