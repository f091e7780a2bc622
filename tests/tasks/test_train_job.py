"""What a user copies to train on several machines: a Kubernetes job and a Slurm script."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tasks.engine.command.cli import _config, _joined, _parser, _sections
from tasks.text_classification import TextClassification

DEPLOY = Path(__file__).parents[2] / "deploy"
SLURM = DEPLOY / "train-slurm.sh"

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.fixture(scope="module")
def claim():
    return manifests()[0]


@pytest.fixture(scope="module")
def jobset():
    return manifests()[1]


def manifests():
    return list(yaml.safe_load_all((DEPLOY / "train-job.yaml").read_text("utf-8")))


def job(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def pod(jobset):
    return job(jobset)["template"]["spec"]


def container(jobset):
    (only,) = pod(jobset)["containers"]
    return only


def options(words):
    """What the training's command asks for, as the command line understands it."""
    task = TextClassification()
    start = words.index("tasks.text_classification")
    assert words[start - 1 : start + 2] == ["-m", "tasks.text_classification", "train"]
    arguments = _joined(words[start + 2 :], _sections(task, "train"))
    return _config(task, _parser(task, "train").parse_args(arguments).as_dict())


class TestKubernetes:
    @pytest.mark.parametrize("version", ["1.29", "1.37"])
    def test_what_kubernetes_defines_is_valid(self, claim, jobset, version):
        meta = {"name": "train-worker-0"}
        inner = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job(jobset)}
        for manifest in (claim, inner):
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_what_jobset_defines_is_as_it_should_be(self, jobset):
        assert jobset.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
        spec = jobset["spec"]
        assert spec.keys() == {"network", "failurePolicy", "replicatedJobs"}
        assert spec["network"] == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
        (replicated,) = spec["replicatedJobs"]
        assert replicated.keys() == {"name", "replicas", "template"}
        assert replicated["replicas"] == 1 and replicated["template"].keys() == {"spec"}

    def test_when_a_worker_dies_all_start_anew(self, jobset):
        policy = jobset["spec"]["failurePolicy"]
        assert policy["maxRestarts"] > 0
        assert job(jobset)["backoffLimit"] == 0
        assert pod(jobset)["restartPolicy"] == "Never"

    def test_a_mistake_is_not_tried_again(self, jobset):
        (rule,) = jobset["spec"]["failurePolicy"]["rules"]
        assert rule.keys() == {"name", "action", "onJobFailureReasons"}
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        assert rule["action"] == "FailJobSet"
        # The reason that Kubernetes gives for a job that its own rule below has failed.
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
        (inner,) = job(jobset)["podFailurePolicy"]["rules"]
        assert inner["action"] == "FailJob"
        exits = inner["onExitCodes"]
        assert exits["containerName"] == container(jobset)["name"]
        assert (exits["operator"], exits["values"]) == ("In", [2])

    def test_there_is_time_to_save(self, jobset):
        assert pod(jobset)["terminationGracePeriodSeconds"] == 120

    def test_each_worker_is_told_who_it_is_and_who_the_others_are(self, jobset):
        name = jobset["metadata"]["name"]
        (replicated,) = jobset["spec"]["replicatedJobs"]
        environment = {entry["name"]: entry for entry in container(jobset)["env"]}
        field = environment["JOBSET"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert field == "metadata.labels['jobset.sigs.k8s.io/jobset-name']"
        count = job(jobset)["completions"]
        assert job(jobset)["completionMode"] == "Indexed"
        assert job(jobset)["parallelism"] == count == int(environment["WORKERS"]["value"])
        (port,) = container(jobset)["ports"]
        # <jobset>-<replicatedJob>-<jobIndex>-<podIndex>.<subdomain>, the jobset's name by default
        hosts = [f"{name}-{replicated['name']}-0-{index}.{name}" for index in range(count)]
        assert all(DNS_LABEL.fullmatch(label) for host in hosts for label in host.split("."))
        addresses = [f"{host}:{port['containerPort']}" for host in hosts]

        python, *code = container(jobset)["command"]
        assert python == "python"
        shows = [sys.executable, "-c", "import os, sys; print(os.environ['TF_CONFIG'], sys.argv)"]
        for index in range(count):
            done = subprocess.run(
                [sys.executable, *code, *shows, "a b"],
                env={"JOBSET": name, "WORKERS": str(count), "JOB_COMPLETION_INDEX": str(index)},
                capture_output=True,
                text=True,
                check=True,
            )
            config, _, arguments = done.stdout.strip().rpartition(" [")
            assert arguments == "'-c', 'a b']"
            assert json.loads(config) == {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }

    def test_the_command_is_understood_and_writes_into_the_shared_volume(self, claim, jobset):
        config = options(container(jobset)["args"])
        assert config.train.strategy == "multi_worker"
        for path in (config.data.train, config.run.dir, config.export.dir):
            assert not Path(path).is_absolute()
        mounts = {mount["name"]: mount["mountPath"] for mount in container(jobset)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod(jobset)["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert container(jobset)["workingDir"] == mounts["training"]
        name = volumes["training"]["persistentVolumeClaim"]["claimName"]
        assert name == claim["metadata"]["name"]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]

    def test_nothing_runs_as_root(self, jobset):
        security = pod(jobset)["securityContext"]
        assert security["runAsNonRoot"] and security["fsGroup"] == security["runAsGroup"]
        security = container(jobset)["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]

    def test_what_the_image_is_built_from_exists(self):
        text = (DEPLOY / "train-job.yaml").read_text("utf-8")
        sources = re.findall(r"^#\s+COPY (.+) \S+$", text, re.M)
        assert sources
        for source in " ".join(sources).split():
            assert (DEPLOY.parent / source).exists()


class TestSlurm:
    def settings(self):
        """The #SBATCH lines that Slurm heeds: those before the first command."""
        head = SLURM.read_text("utf-8").split("\nset ")[0]
        lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", head, re.M)
        assert len(lines) == SLURM.read_text("utf-8").count("#SBATCH")
        return dict(lines)

    def run(self, folder, code, restarts=None):
        """Runs the script with a `srun` that ends with a code: its own, and what was called."""
        for name, end in (("srun", code), ("scontrol", 0)):
            program = folder / name
            program.write_text(f'#!/bin/sh\necho {name} "$@" "[$TF_CONFIG]"\nexit {end}\n')
            program.chmod(0o755)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        environment |= {"TF_CONFIG": "of another", "SLURM_CPUS_PER_TASK": "8"}
        if restarts is not None:
            environment["SLURM_RESTART_COUNT"] = str(restarts)
        done = subprocess.run(["bash", SLURM], env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def test_it_is_bash(self):
        subprocess.run(["bash", "-n", SLURM], check=True)
        assert SLURM.read_text("utf-8").startswith("#!/bin/bash\n")

    def test_its_settings(self):
        settings = self.settings()
        assert int(settings["nodes"]) == 2 and settings["ntasks-per-node"] == "1"
        assert settings["signal"] == "TERM@120"
        assert "requeue" in settings and settings["open-mode"] == "append"

    def test_the_command_is_understood(self, tmp_path):
        code, (called,) = self.run(tmp_path, 0)
        assert code == 0
        words = shlex.split(called)
        assert "--cpus-per-task=8" in words and words.pop() == "[]"
        assert options(words).train.strategy == "multi_worker"

    @pytest.mark.parametrize("code", [1, 130, 137])
    def test_it_starts_anew_after_a_fault_and_when_the_time_is_over(self, tmp_path, code):
        assert self.run(tmp_path, code)[1][1:] == ["scontrol requeue 7 []"]
        assert self.run(tmp_path, code, restarts=19)[1][1:] == ["scontrol requeue 7 []"]
        assert self.run(tmp_path, code, restarts=20)[1][1:] == []

    @pytest.mark.parametrize("code", [0, 2])
    def test_it_does_not_after_the_end_or_a_mistake(self, tmp_path, code):
        ended, called = self.run(tmp_path, code)
        assert ended == code and len(called) == 1
