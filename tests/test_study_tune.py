"""Study.tune: a study is made once, read for the same question, and made anew for another."""

import pytest
from conftest import garments

from fashion_mnist import data, profiles, records, study, training, tuning

IMAGES, LABELS = garments(64, 0)
ASKED = {"epochs": 1, "trials": 2}


def a_run(root, replays=False, fingerprint="0123456789abcdef"):
    arrays = data.Dataset(*[IMAGES, LABELS] * 3, "arrays of a test", "official", fingerprint)
    return study.Study("03_test", profiles.named("smoke"), 0, arrays, root, root, replays)


def no_training(*arguments, **options):
    pytest.fail("a study was made")


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder with the record of a study, and the study."""
    root = tmp_path_factory.mktemp("root").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASHION_MNIST_ROOT", str(root))
        run = a_run(root)
        tuned = run.tune("cnn_grid", "trials", **ASKED)
        run.save_result({"configurations": len(tuned.trials)})
    return root, tuned


@pytest.fixture
def made(once, monkeypatch):
    """The same; none can be made any more."""
    monkeypatch.delenv("FASHION_MNIST_FRESH", raising=False)
    monkeypatch.setattr(tuning, "tune", no_training)
    return once


def test_a_study_is_read_from_the_record_as_it_was(made):
    root, tuned = made
    for replays in (False, True):
        run = a_run(root, replays)
        again = run.tune("cnn_grid", "trials", **ASKED)
        assert again.rows() == tuned.rows() and again.seconds == tuned.seconds and again.rungs == tuned.rungs
        assert run.spared == tuned.seconds, "the record's time is that of making it"
        run.save_result({"configurations": 2})
        kept = records.read("03_test", root)
        assert kept["tables"]["trials"] == records.plain(tuned.rows())
        assert set(kept["studies"]["trials"]) == {"question", "rungs", "factor", "seconds"}


@pytest.mark.parametrize(
    "other",
    [{"space": "resnet_grid"}, {"epochs": 2}, {"seed": 1}, {"trials": 3}, {"table": "whole"}, {"fingerprint": "f"}],
)
def test_what_only_shows_the_full_study_refuses_another(made, other):
    root, _ = made
    options = {"space": "cnn_grid", "table": "trials", **ASKED, **other}
    run = a_run(root, True, options.pop("fingerprint", "0123456789abcdef"))
    with pytest.raises(study.StudyError, match=r"03_test\.json holds no study .*`fashion-mnist run 03_test --profile"):
        run.tune(options.pop("space"), options.pop("table"), **options)


def test_a_study_of_an_older_training_is_shown_but_made_again_where_things_are_made(made, monkeypatch):
    root, tuned = made
    monkeypatch.setattr(tuning, "VERSION", training.VERSION + 1)
    assert a_run(root, replays=True).tune("cnn_grid", "trials", **ASKED).rows() == tuned.rows()
    with pytest.raises(pytest.fail.Exception, match="a study was made"):
        a_run(root).tune("cnn_grid", "trials", **ASKED)


def test_a_run_that_begins_anew_makes_its_studies_under_names_of_their_own(made, monkeypatch):
    root, tuned = made
    names = []
    monkeypatch.setattr(tuning, "tune", lambda *_, name, **options: names.append(name) or tuned)
    monkeypatch.setenv("FASHION_MNIST_FRESH", "2026-11-24T23:08:14+00:00")
    a_run(root).tune("cnn_grid", "trials", **ASKED)
    assert names == ["cnn_grid-trials-202611242308140000"]
