"""Two and four processes on loopback: the bits of one process, killed, stopped and resumed."""

import os
import resource
import signal
import socket
import time
from dataclasses import replace

import pytest
from runs import CONFIG, WITH_WINDOWS
from watched import Watched, differing, last_line, sessions

from glassgrok import config as configs
from glassgrok.engine import folder as folders
from glassgrok.engine import processes
from glassgrok.engine.run import run
from glassgrok.training import TrainingConfig

WITHIN = 60  # seconds after which no process may wait for one that is dead


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(configs.dump(CONFIG))
    return path


@pytest.fixture(autouse=True)
def one_device_each(monkeypatch):
    """Not the two of the tests' own process."""
    monkeypatch.delenv("XLA_FLAGS")


@pytest.fixture
def together(programs):
    """Start several processes on one run; whatever is left of them is killed in the end."""
    started = []

    def start(count, words, folder, more=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        found = [
            Watched(
                [str(word) for word in words]
                + ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count)]
                + ["--process-id", str(index), "--checkpoint-seconds", "1"]
                + (more[index] if more else []),
                folder,
                programs,
            )
            for index in range(count)
        ]
        started.extend(found)
        return found

    yield start
    for process in started:
        if process.running:
            process.kill()


def comes_to(processes, stage):
    folder, before = processes[0].folder, sessions(processes[0].folder)

    def there():
        return sessions(folder) > before and last_line(folder)["stage"] == stage

    return processes[0].wait_for(there, 200)


def codes(processes):
    end = time.monotonic() + WITHIN
    return [process.end(seconds=max(end - time.monotonic(), 0.1)) for process in processes]


def log(folder):
    return folder.with_name(f"{folder.name}.log").read_text()


def slurm(count, words, folder, programs, monkeypatch):
    """Processes that are told of each other by Slurm's variables alone, as srun sets them."""
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))  # from which JAX takes the port
    monkeypatch.setenv("SLURM_NTASKS", str(count))
    monkeypatch.setenv("SLURM_STEP_NODELIST", "127.0.0.1")
    found = []
    for task in range(count):
        monkeypatch.setenv("SLURM_PROCID", str(task))
        monkeypatch.setenv("SLURM_LOCALID", str(task))
        words = [*map(str, words), "--devices", "1", "--checkpoint-seconds", "1"]
        found.append(Watched(words, folder, programs))
    for name in processes.SLURM:
        monkeypatch.delenv(name)
    return found


def finish(found):
    for process in found:
        process.wait_for(lambda: False, 300)
    return codes(found)


def told_of_the_end(folder):
    """The one sentence of the process that was left behind."""
    told = [line for line in log(folder).splitlines() if line.startswith("glassgrok: ")]
    assert "Process 0 of 2 stopped because another one ended" in told[-1]
    return len(told) == 1


@pytest.mark.timeout(900)
def test_of_two_processes_inside_srun_one_is_killed(file, programs, tmp_path, monkeypatch):
    """How such a run goes on is tested below, with more processes."""
    folder = tmp_path / "run"
    two = slurm(2, ["sample", file, "--out", folder], folder, programs, monkeypatch)
    assert comes_to(two, "adaptation"), log(folder)
    two[1].kill()
    assert two[0].end(seconds=WITHIN) == 2, log(folder)
    assert told_of_the_end(folder)
    assert folders.read_provenance(folder)["devices"] == ["cpu cpu"] * 2


@pytest.mark.slow  # starts eight processes
@pytest.mark.timeout(900)
def test_killed_stopped_and_resumed_by_other_numbers_of_processes(whole, file, together, tmp_path):
    folder = tmp_path / "run"
    two = together(2, ["sample", file, "--out", folder], folder)
    assert comes_to(two, "adaptation"), log(folder)
    two[1].kill()
    assert two[0].end(seconds=WITHIN) == 2, log(folder)
    assert told_of_the_end(folder)

    four = together(4, ["resume", folder], folder)
    assert comes_to(four, "production"), log(folder)
    four[2].process.send_signal(signal.SIGTERM)  # whichever has it, all stop at the same block
    assert codes(four) == [0, 0, 0, 0], log(folder)
    assert log(folder).count("all is saved. Go on with:") == 1
    step = last_line(folder)["step"]

    assert finish(together(2, ["resume", folder], folder)) == [0, 0], log(folder)
    assert folders.read_provenance(folder)["sessions"] == 3
    assert step < last_line(folder)["step"] == 1500
    assert differing(whole, folder) == []


@pytest.mark.slow  # most of a minute; that the first ends where another dies is tested above
@pytest.mark.timeout(600)
def test_the_others_end_where_the_first_dies(file, together, tmp_path):
    folder = tmp_path / "run"
    two = together(2, ["sample", file, "--out", folder], folder)
    assert comes_to(two, "ladder"), log(folder)
    two[0].kill()
    assert two[1].end(seconds=WITHIN) != 0, log(folder)


def test_a_mistake_is_told_by_both(file, together, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    two = together(2, ["sample", file, "--out", folder], folder)
    assert codes(two) == [2, 2], log(folder)
    assert log(folder).count("is not a glassgrok run and holds thesis.tex") == 2
    assert "Traceback" not in log(folder)
    assert [entry.name for entry in folder.iterdir()] == ["thesis.tex"]


def test_different_options(file, together, tmp_path):
    folder = tmp_path / "run"
    one = ["sample", file, "--out", folder]
    two = together(2, one, folder, [[], ["--sampler.friction", "0.02"]])
    assert codes(two) == [2, 2], log(folder)
    assert log(folder).count("were given different configs or options") == 2
    assert not folder.exists()


@pytest.mark.timeout(600)
def test_stopped_while_the_first_trains(together, tmp_path):
    """The signal goes to the other one; neither leaves before the state is on the disk."""
    file, folder = tmp_path / "train.yaml", tmp_path / "run"
    training = TrainingConfig(steps=100_000, learning_rate=1e-2, block=50)
    file.write_text(configs.dump(replace(CONFIG, training=training)))
    two = together(2, ["train", file, "--out", folder], folder)
    assert comes_to(two, "train"), log(folder)
    two[1].process.send_signal(signal.SIGTERM)
    assert codes(two) == [0, 0], log(folder)
    assert log(folder).count("all is saved. Go on with:") == 1
    assert any((folder / "checkpoints" / "train").iterdir())


@pytest.mark.slow  # half a minute; the sentence itself is tested with one process
@pytest.mark.timeout(600)
def test_one_process_fails_alone(file, together, tmp_path):
    """Files of the first may not grow: its sentence, and one of the other."""
    folder = tmp_path / "run"
    two = together(2, ["sample", file, "--out", folder], folder)
    assert comes_to(two, "ladder"), log(folder)
    resource.prlimit(two[0].process.pid, resource.RLIMIT_FSIZE, (12_000, 12_000))
    assert codes(two) == [2, 2], log(folder)
    assert "could not be written" in log(folder)
    assert "Process 1 of 2 stopped because another one ended" in log(folder)
    assert "Traceback" not in log(folder)


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("localhost:1", None, None), r"belong together; give --processes, --process-id too"),
        ((None, 2, 0), r"belong together; give --coordinator too"),
        (("localhost:1", 2, 2), r"--process-id must be from 0 to 1 .* but is 2"),
        (("localhost:1", 0, 0), r"--processes must be at least 1, but is 0"),
        (("localhost", 2, 0), r"--coordinator must be host:port, but is 'localhost'"),
    ],
)
def test_arguments_that_do_not_fit(given, told):
    with pytest.raises(ValueError, match=told):
        processes.join(*given)


def test_outside_srun_a_process_works_alone(monkeypatch):
    for name in processes.SLURM:
        monkeypatch.setenv(name, "1")
    processes.join(None, None, None)  # a single task
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    processes.join(None, None, None)  # the batch script
    assert processes.alone()
    assert processes.first()


@pytest.mark.slow  # two minutes; that one process gives these bits when stopped is tested elsewhere
@pytest.mark.timeout(900)
def test_windows_of_two_processes_killed_and_resumed(together, tmp_path):
    file, folder = tmp_path / "windows.yaml", tmp_path / "run"
    file.write_text(configs.dump(WITH_WINDOWS))
    two = together(2, ["sample", file, "--out", folder], folder)
    assert comes_to(two, "level"), log(folder)
    two[1].kill()
    assert two[0].end(seconds=WITHIN) == 2, log(folder)
    assert finish(together(2, ["resume", folder], folder)) == [0, 0], log(folder)
    assert differing(run(tmp_path / "alone", WITH_WINDOWS), folder) == []
