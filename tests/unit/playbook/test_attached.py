"""Files that steps name: where they may be, what is wrong with them and where, and that the text a run began with is kept."""

from __future__ import annotations

import pytest

from remediator.errors import DocumentError
from remediator.playbook import Library, check_paths
from remediator.playbook.attached import bundled

JOB = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      containers:
      - name: check
        image: example.test/check:1
        args: ["${HOME}"]
"""
STEP = "{action: job.run, template: jobs/check.yaml, namespace: checks}"


@pytest.fixture
def text(valid):
    def make(step=STEP):
        return valid.replace("{action: cilium.restart_agent}", step)

    return make


@pytest.fixture
def folder(tmp_path, text):
    """``folder(...)`` writes a playbook and the template that it names; ``job`` None: no template."""

    def write(step=STEP, job=JOB):
        (tmp_path / "jobs").mkdir(exist_ok=True)
        (tmp_path / "p.yaml").write_text(text(step))
        if job is not None:
            (tmp_path / "jobs" / "check.yaml").write_text(job)
        return tmp_path

    return write


@pytest.fixture
def said(actions, gates):
    def told(folder):
        return [str(one).replace(f"{folder}/", "") for one in check_paths([folder], actions=actions, gates=gates)]

    return told


@pytest.fixture
def read(actions, gates):
    return lambda *paths: Library.load(paths, actions=actions, gates=gates)


def test_a_template_beside_the_playbook_is_no_playbook_and_kept_with_its_text(folder, read, load, values):
    (playbook,) = read(folder()).playbooks
    (step,) = playbook.ladder[0].steps
    assert step.render_files(values)["template"]["spec"]["template"]["spec"]["containers"][0]["args"] == ["${HOME}"]
    again = load(playbook.text, source=playbook.source)
    assert again.revision == playbook.revision
    assert again.ladder[0].steps[0].files == step.files
    assert again.text == playbook.text


@pytest.mark.parametrize(
    "job", [JOB.replace("\n", "\r\n"), JOB.replace("HOME", "HOME}\u2028\u00e9\\t") + "# trailing  \n\n", "---\n" + JOB.rstrip()]
)
def test_whatever_its_text_is_like(folder, read, load, job):
    (playbook,) = read(folder(job=job)).playbooks
    assert load(playbook.text, source=playbook.source).ladder[0].steps[0].files == playbook.ladder[0].steps[0].files


def test_another_template_is_another_revision(folder, read):
    first = read(folder())
    assert read(folder(job=JOB.replace("check:1", "check:2"))).revision != first.revision


def test_a_run_goes_on_with_what_was_kept_whatever_the_folder_says_now(folder, read, load):
    (playbook,) = read(folder()).playbooks
    (folder() / "jobs" / "check.yaml").unlink()
    assert load(playbook.text, source=playbook.source).ladder[0].steps[0].files


def test_a_playbook_text_without_its_file_is_refused(text, load):
    with pytest.raises(DocumentError, match=r'template: "jobs/check\.yaml" was not kept with the playbook\'s text'):
        load(bundled(text(), {"jobs/other.yaml": JOB}))


PATH = "p.yaml:11:32: ladder[0].steps[0].restart.template: "


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("/etc/passwd", '"/etc/passwd" is no path within the playbook\'s folder'),
        ("../check.yaml", '"../check.yaml" is no path within the playbook\'s folder'),
        ("jobs/../../x.yaml", '"jobs/../../x.yaml" is no path within the playbook\'s folder'),
        ("jobs/absent.yaml", '"jobs/absent.yaml" is not there: jobs/absent.yaml'),
        ("jobs", '"jobs" is no file: jobs'),
        ("link", '"link" leads out of the playbook\'s folder by a link'),
        ("'${target.name}.yaml'", "must be known before a run, so write it out"),
    ],
)
def test_a_path_that_may_not_be(folder, said, tmp_path_factory, named, words):
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text(JOB)
    where = folder(STEP.replace("jobs/check.yaml", named), job=None)
    (where / "link").symlink_to(outside)
    assert said(where)[0] == PATH + words


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("batch/v1", "batch/v1beta1", '1:1: apiVersion: must be a batch/v1 Job: apiVersion is "batch/v1beta1", not "batch/v1"'),
        ("kind: Job", "kind: Pod", '2:1: kind: must be a batch/v1 Job: kind is "Pod", not "Job"'),
        (JOB, "- a list\n", "1:1: must be a Job, not a list"),
        ("spec:\n  template", "spce:\n  template", '3:1: spce: unknown key "spce" of a Job; did you mean "spec"?'),
        ("kind: Job\n", "kind: Job\nmetadata: {namespace: x}\n", "3:12: metadata.namespace: stands in the playbook's step, not here"),
        ("kind: Job\n", "kind: Job\nmetadata: {generateName: x-}\n",
         '3:12: metadata.generateName: "generateName" is not for a template to say; known are name, labels, annotations'),
        ("kind: Job\n", "kind: Job\nmetadata: {labels: {remediator.dev/run: x}}\n",
         "3:21: metadata.labels.remediator.dev/run: remediator.dev/ is kept for remediator itself"),
        ("kind: Job\n", "kind: Job\nmetadata: {labels: {a: 1}}\n", "3:12: metadata.labels: must be a mapping of strings"),
        ("  template:", "  suspend: true\n  template:", "4:3: spec.suspend: would keep the Job from ever running"),
        ("  template:", "  backoffLimit: -1\n  template:",
         "4:3: spec.backoffLimit: must be a whole number of at least 0, not the number -1"),
        ("  template:", "  ttlSecondsAfterFinished: 5\n  template:",
         "4:3: spec.ttlSecondsAfterFinished: must be a whole number of at least 300, not the number 5"),
        ("  template:", "  activeDeadlineSeconds: 10m\n  template:",
         '4:3: spec.activeDeadlineSeconds: must be a whole number of at least 1, not "10m"'),
        ("    spec:\n", "    spec:\n      restartPolicy: Always\n",
         '6:7: spec.template.spec.restartPolicy: must be Never or OnFailure in a Job, not "Always"'),
        ("        image: example.test/check:1\n", "", "7:9: spec.template.spec.containers[0]: a container needs an image"),
        ('args: ["${HOME}"]', 'image: "${target.nme}"', '9:9: key "image" appears twice in this mapping; the first is at line 8, column 9'),
        ("name: check", 'name: "${target.nme}"',
         '7:18: spec.template.spec.containers[0].name: undeclared name "target.nme"; did you mean "target.name"?'),
        ("      - name: check", "\t- name: check", "7:1: a tab cannot indent YAML; use spaces"),
        (JOB, JOB + "---\n" + JOB, "1:1: holds 2 documents; one is needed"),
        (JOB, "", "1:1: holds 0 documents; one is needed"),
    ],
)  # fmt: skip
def test_a_template_that_may_not_be_is_refused_where_it_is_wrong(folder, said, old, new, problem):
    assert old in JOB
    found = [one for one in said(folder(job=JOB.replace(old, new))) if one.startswith(f"jobs/check.yaml:{problem}")]
    assert len(found) == 1, said(folder(job=JOB.replace(old, new)))


def test_every_problem_at_once_and_each_once(folder, said):
    job = JOB.replace("batch/v1", "v1").replace("        image: example.test/check:1\n", "")
    assert len(said(folder(job=job))) == 2


def test_the_playbook_of_a_bad_template_is_refused_and_the_rest_serves(folder, valid, actions, gates):
    where = folder(job="kind: [")
    (where / "good.yaml").write_text(valid.replace("name: example", "name: good").replace("CiliumAgentDown", "Other"))
    library, problems = Library.load_rest([where], actions=actions, gates=gates)
    assert [playbook.name for playbook in library.playbooks] == ["good"]
    assert {problem.path for problem in problems} == {str(where / "jobs" / "check.yaml")}


def test_a_job_that_nobody_names_is_told(folder, said):
    where = folder(step="{action: cilium.restart_agent}")
    assert said(where) == ["jobs/check.yaml:2:1: kind: no playbook names this Job as the template of a step with job.run"]


@pytest.mark.parametrize("namespace", ["'${target.namespace}'", "'${parameters.where}'", "'${cilium.namespace}-x${target.name}'"])
def test_a_namespace_that_only_a_run_knows_is_refused(folder, said, namespace):
    found = said(folder(STEP.replace("checks", namespace)))
    assert any("namespace: must be known before a run, so write it out or ${cilium.namespace}" in one for one in found) or (
        "parameters" in namespace and any('no parameter "where" is declared' in one for one in found)
    )


def test_ciliums_own_namespace_may_be_named(folder, said):
    assert said(folder(STEP.replace("checks", "'${cilium.namespace}'"))) == []


def test_a_disruptive_one_is_held_to_what_disruptive_steps_are(folder, said, valid):
    where = folder(STEP.replace("}", ", disruptive: true}"))
    (where / "p.yaml").write_text((where / "p.yaml").read_text().replace("gates: {cooldown: 30m}\n", ""))
    (found,) = said(where)
    assert "job.run may disturb, so gates must set cooldown or attempts" in found


def test_one_that_is_too_big(folder, said):
    (found,) = said(folder(job=JOB + "#" * 65536))
    assert found.startswith("jobs/check.yaml:1:1: ")
    assert "a file that a step names has at most 65536" in found


def test_a_parameter_that_only_the_template_names_is_of_use(folder, said):
    where = folder(job=JOB.replace("check:1", "check:${parameters.version}"))
    text = (where / "p.yaml").read_text()
    (where / "p.yaml").write_text(text.replace("gates:", "parameters: {version: {default: '1'}}\ngates:"))
    assert said(where) == []
