"""External programs that are missing, fail, hang or lie, and what they leave behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from icm_bench.error import ProgramError
from icm_bench.program import Call, locate, run

pytestmark = pytest.mark.usefixtures("scratch")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_ended(pid: int, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_files_go_in_and_the_output_comes_back() -> None:
    code = "open('out', 'wb').write(open('in', 'rb').read()[::-1])"
    assert run(Call(python(code), inputs={"in": b"abc"}, output="out", n_bytes=3)) == b"cba"


def test_what_is_printed_comes_back_where_no_file_is_asked_for() -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run(Call(python(code))) == b"out\nerr\n"


def test_the_program_runs_in_an_empty_folder_with_its_variables() -> None:
    code = "import os; print(os.listdir(), os.environ['SPEED'])"
    assert run(Call(python(code), environment={"SPEED": "9"})) == b"[] 9\n"


def test_arguments_are_not_read_by_a_shell() -> None:
    assert run(Call([*python("import sys; print(sys.argv[1])"), "$HOME; *"])) == b"$HOME; *\n"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramError, match=r"^/nowhere/encoder: cannot be started \(No such file"):
        run(Call(["/nowhere/encoder"]))


def test_a_file_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "encoder"
    path.write_text("not a program")
    with pytest.raises(ProgramError, match=r"encoder: cannot be started \(Permission denied\)"):
        run(Call([str(path)]))


def test_a_failure_is_told_with_its_status_and_last_words() -> None:
    code = "import sys; print('first', flush=True); print('cannot open it\\n', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        run(Call(python(code), output="out"))
    assert str(caught.value) == f"{Path(sys.executable).name}: failed with exit status 3: cannot open it"


def test_the_first_words_are_told_where_they_are_the_telling_ones() -> None:
    code = "import sys; print('cannot open it', flush=True); sys.exit('giving up')"
    with pytest.raises(ProgramError, match="failed with exit status 1: cannot open it$"):
        run(Call(python(code), telling="first"))


def test_a_status_that_means_success_is_none_but_the_ones_named() -> None:
    code = "import sys; print('usage'); sys.exit(1)"
    assert run(Call(python(code), success=(0, 1))) == b"usage\n"
    with pytest.raises(ProgramError, match="failed with exit status 0"):
        run(Call(python("pass"), success=(1,)))


def test_a_crash_is_told_with_its_signal() -> None:
    with pytest.raises(ProgramError, match="crashed with SIGSEGV"):
        run(Call(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")))


@pytest.mark.parametrize("code", ["pass", "open('out', 'wb')", "import os; os.mkdir('out')"])
def test_an_output_that_is_absent_or_empty_is_refused(code: str) -> None:
    with pytest.raises(ProgramError, match="wrote nothing"):
        run(Call(python(code), output="out"))


def test_an_output_of_another_size_is_refused() -> None:
    with pytest.raises(ProgramError, match="wrote 2 bytes where 3 were due"):
        run(Call(python("open('out', 'wb').write(b'ab')"), output="out", n_bytes=3))


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys, pathlib;"
        f"process = subprocess.Popen([sys.executable, '-c', {child!r}]);"
        f"pathlib.Path({str(note)!r}).write_text(str(process.pid)); process.wait()"
    )
    begin = time.monotonic()
    with pytest.raises(ProgramError, match=r"killed because it was still running after 2 s"):
        run(Call(python(code), timeout_s=2.0))
    assert time.monotonic() - begin < 20.0
    wait_until_ended(int(note.read_text()), within_s=5.0)


def test_children_that_a_program_leaves_behind_are_ended() -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid)"
    wait_until_ended(int(run(Call(python(code)))), within_s=5.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_and_its_children_end_with_whoever_runs_it(
    tmp_path: Path, scratch: Path, number: signal.Signals
) -> None:
    script = f"sleep 60 & echo $! $$ >'{tmp_path}/new'; mv '{tmp_path}/new' '{tmp_path}/pids'; wait"
    code = f"from icm_bench.program import Call, run; run(Call(['/bin/sh', '-c', {script!r}]))"
    folder = scratch / "with a blank"
    folder.mkdir()
    runner = subprocess.Popen(
        python(code),
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    note = tmp_path / "pids"
    deadline = time.monotonic() + 60.0
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    # Whoever runs a program says so right after it has begun.
    time.sleep(0.2)
    runner.send_signal(number)
    try:
        runner.wait(timeout=30)
    finally:
        # Or a runner that stays makes another test fail, too.
        runner.kill()
        runner.wait()
    for pid in note.read_text().split():
        wait_until_ended(int(pid))
    deadline = time.monotonic() + 5.0
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    folder.rmdir()


def test_a_program_that_is_killed_is_run_once_more(tmp_path: Path) -> None:
    note = tmp_path / "tried"
    suicide = "kill -s KILL $$"
    script = f"[ -e '{note}' ] && exec echo done; : >'{note}'; {suicide}"
    assert run(Call(["/bin/sh", "-c", script])) == b"done\n"
    with pytest.raises(ProgramError, match=r"^sh: was killed \(SIGKILL\), and again .*; free some memory"):
        run(Call(["/bin/sh", "-c", suicide]))


def test_a_temporary_folder_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(ProgramError, match=r"encoder: its temporary folder cannot be used .*; .*set TMPDIR"):
        run(Call(["/usr/bin/encoder"]))


def test_output_that_is_not_text_does_not_hide_the_error() -> None:
    code = "import os, sys; os.write(2, bytes(range(128, 256))); sys.exit(1)"
    with pytest.raises(ProgramError, match="failed with exit status 1"):
        run(Call(python(code)))


def test_long_last_words_are_shortened() -> None:
    with pytest.raises(ProgramError) as caught:
        run(Call(python("import sys; sys.exit('x' * 100000)")))
    assert len(str(caught.value)) < 500


def test_a_program_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bpgenc"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    assert locate(str(path), hint="install it") == str(path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert locate("bpgenc", hint="install it") == str(path)
    with pytest.raises(ProgramError, match="^no-such-encoder: no such program; install it$"):
        locate("no-such-encoder", hint="install it")
