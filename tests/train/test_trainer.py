import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from retraining import PROFILE, model, windows

from streamclust.core.clock import ManualClock
from streamclust.core.errors import CorruptModel, SinkUnavailable
from streamclust.core.retrain_specs import BufferSpec, RetrainSpec
from streamclust.core.types import NS
from streamclust.model.bundle import from_bytes
from streamclust.store.buffer import BUFFER, Buffer, Kept, Table
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.models import ModelStore
from streamclust.train import trainer
from streamclust.train.fit import FitOptions, fit
from streamclust.train.gate import Check, Verdict
from streamclust.train.look import feature_map, look
from streamclust.train.trainer import REASONS, UNFINISHED, Settings, Site, balanced, read_journal, run
from streamclust.train.watch import wished


@pytest.fixture(scope="module")
def bundle():
    return model()


class Place:
    """A state directory with a model and a buffer."""

    def __init__(self, path, bundle):
        self.path, self.store = path, ModelStore(path / "models")
        self.clock = ManualClock(1_600_000_000 * NS)
        self.store.publish(bundle.to_bytes())
        self.store.activate(1, active_from_ns=0, by="first fit")
        self.told, self.relabelled = [], []

    def fill(self, sizes, seed, later=0):
        data, y = windows(sizes, seed, later=later)
        novel = y >= 3
        rows = [
            Kept(
                *(f"{seed}-{row}", data.streams[row], int(data.start_ns[row]), int(data.end_ns[row]), 1),
                *(f"C{y[row] + 1}", 0.5, bool(novel[row]), 1.0, 1.0, data.logp[row].astype(np.float16), None),
            )
            for row in range(len(y))
        ]
        buffer = Buffer.open(self.path / BUFFER, BufferSpec(), PROFILE.digest)
        buffer.put(rows)
        buffer.close()
        return self

    def activate(self, version, active_from_ns, reason):
        self.store.activate(version, active_from_ns=active_from_ns, by="retrain", reason=reason)

    def run(self, activate=None, **spec):
        site = Site(
            self.path,
            self.clock,
            lambda step, share: self.told.append((step, share)),
            activate or self.activate,
            self.relabelled.extend,
        )
        self.clock.sleep(1)
        return run(site, Settings(RetrainSpec(**spec), PROFILE), "a test")

    @property
    def current(self):
        return from_bytes(self.store.load(self.store.current()))

    def identities(self):
        identities = Identities(self.path / IDENTITIES)
        try:
            return dict(identities.identities()), identities.lineage(), identities.last()
        finally:
            identities.close()


@pytest.fixture
def place(tmp_path, bundle):
    return Place(tmp_path, bundle)


@pytest.fixture(scope="module")
def mixed():
    """Three clusters of four classes: the classes 2 and 3 are both in C1."""
    return fit(windows((150, 120, 90, 80))[0], FitOptions(clusters=3, method="gmm", dimensions=4)).bundle


@pytest.fixture
def one_of_two(tmp_path, mixed):
    """A place of that model, where a training has changed nothing, as nobody has asked for anything."""
    place = Place(tmp_path, mixed).fill((150, 120, 90, 80), 1, later=1)
    place.wish = Identities(tmp_path / IDENTITIES)
    assert place.run().kind == "promoted"
    assert place.current.clusters == ("C1", "C2", "C3")
    yield place
    place.wish.close()


def classes(place):
    """Cluster of each class, by most of its windows."""
    data, y = windows((40, 40, 40, 40), 9)
    found = np.array(place.current.clusters)[look(place.current, feature_map(place.current), data).labels]
    return [max(set(found[y == k]), key=list(found[y == k]).count) for k in range(4)]


def test_a_retrain_publishes_activates_and_records(place):
    done = place.fill((150, 120, 90, 50), 1, later=1).run(relabel_window=10**6)
    assert (done.kind, done.version) == ("promoted", 2), done.reasons
    assert place.current.clusters == ("C1", "C2", "C3", "C4")
    assert done.figures["changes"]["born"] == 1
    entry = place.store.activations()[-1]
    assert entry.by == "retrain"
    assert "1 born" in entry.reason
    assert entry.active_from_ns % PROFILE.hop_ns == 0
    known, lineage, last = place.identities()
    assert list(known) == ["C1", "C2", "C3", "C4"]
    assert [one.kind for one in lineage[-4:]] == ["keep", "keep", "keep", "birth"]
    assert last == 4
    assert len(place.relabelled) == 410
    assert {one.model for one in place.relabelled} == {2}
    (line,) = read_journal(place.path)
    assert (line["kind"], line["why"], line["version"]) == ("promoted", "a test", 2)
    assert {"load", "read", "features", "clusters", "gate"} <= {step for step, _ in place.told}


def test_without_a_model_or_windows_enough_nothing_happens(tmp_path, bundle):
    empty = Place.__new__(Place)
    empty.path, empty.store, empty.clock = tmp_path, ModelStore(tmp_path / "models"), ManualClock()
    empty.told, empty.relabelled = [], []
    assert empty.run().reasons == ("there is no model yet",)
    place = Place(tmp_path / "other", bundle)
    assert place.run().kind == "skipped"
    assert place.fill((30, 20, 10), 1).run().reasons == ("there must be 80 windows in the buffer",)
    assert place.store.versions() == [1]


def test_a_refused_candidate_is_kept_with_its_reasons_and_nothing_changes(place, monkeypatch):
    made = trainer.retrain

    def exchanged(*args):
        found = made(*args)
        ids = found.bundle.clusters
        return replace(found, bundle=replace(found.bundle, clusters=(*ids[1:], ids[0])))

    monkeypatch.setattr(trainer, "retrain", exchanged)
    place.fill((150, 120, 90, 50), 1)
    for turn in range(7):
        done = place.run()
        assert (done.kind, done.version) == ("refused", turn + 1)
    assert [reason.split(":")[0] for reason in done.reasons] == ["identity"]
    assert place.store.versions() == [1]
    assert place.store.current() == 1
    shelf = ModelStore(place.path / "models" / "refused")
    assert shelf.versions() == [3, 4, 5, 6, 7]
    files = shelf.load(7)
    assert from_bytes(files).clusters == ("C2", "C3", "C4", "C1")
    assert json.loads(files[REASONS])["reasons"] == list(done.reasons)
    assert list(place.identities()[0]) == ["C1", "C2", "C3"]


def test_a_fit_that_makes_no_candidate_is_refused_and_told(place, monkeypatch):
    def broken(*args):
        raise CorruptModel("mixture: must be finite (got NaN or infinity)")

    monkeypatch.setattr(trainer, "retrain", broken)
    done = place.fill((150, 120, 90), 1).run()
    assert (done.kind, done.version) == ("refused", None)
    assert "finite" in done.reasons[0]


def test_killed_before_it_is_activated_no_id_is_given_twice_and_the_old_model_stays(place):
    place.fill((150, 120, 90, 50), 1)

    def killed(version, active_from_ns, reason):
        raise SinkUnavailable("no room")

    with pytest.raises(SinkUnavailable):
        place.run(killed)
    assert place.store.current() == 1
    assert place.identities()[2] == 4, "C4 is reserved"
    done = place.run()
    assert (done.kind, done.version) == ("promoted", 3)
    assert place.current.clusters == ("C1", "C2", "C3", "C5")


def test_killed_after_it_was_activated_the_lineage_is_recorded_by_the_next_one(place, monkeypatch):
    place.fill((150, 120, 90, 50), 1)
    record = Identities.record

    def killed(self, lineage, merge_kernels=None, splits=None):
        if len(list(lineage)) == 4:
            raise SinkUnavailable("killed")
        return record(self, lineage, merge_kernels, splits)

    monkeypatch.setattr(Identities, "record", killed)
    with pytest.raises(SinkUnavailable):
        place.run()
    assert place.store.current() == 2
    monkeypatch.setattr(Identities, "record", record)
    assert place.run().kind == "promoted"
    born = [one for one in place.identities()[1] if one.identity == "C4" and one.to_model == 2]
    assert [one.kind for one in born] == ["birth"]


def test_the_new_model_holds_from_a_little_later_than_now_and_of_a_replay_in_its_own_time(place):
    place.fill((150, 120, 90), 1)
    place.run(activate_after=30.0)
    live = place.store.activations()[-1].active_from_ns
    assert 0 <= live - (place.clock.now_ns() + 30 * NS) < PROFILE.hop_ns
    place.clock.sleep(10 * 86_400)
    place.run(activate_after=30.0)
    newest = 1_600_000_000 * NS + 359 * NS
    assert 0 <= place.store.activations()[-1].active_from_ns - (newest + 30 * NS) < PROFILE.hop_ns


def test_of_many_windows_each_cluster_gives_what_it_has_up_to_the_same_number():
    names = ["C1"] * 1000 + ["C2"] * 30 + ["C3"] * 5
    none = np.zeros(1035)
    table = Table(none, none, none, ["a"] * 1035, names, [1] * 1035, none.astype(bool), none)
    rows = balanced(table, 95)
    assert np.bincount([int(names[row][1]) for row in rows.tolist()]).tolist() == [0, 60, 30, 5]
    assert len(balanced(table, 5000)) == 1035


def test_a_torn_line_of_the_journal_is_left_out(tmp_path: Path):
    assert read_journal(tmp_path) == []
    (tmp_path / "retrain.jsonl").write_bytes(b'{"kind": "promoted"}\n{"kind": "ref')
    assert read_journal(tmp_path) == [{"kind": "promoted"}]


def test_the_journal_is_bounded_and_read_across_its_two_files(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(trainer, "MOST_JOURNAL", 1000)
    journal, older = tmp_path / "retrain.jsonl", tmp_path / "retrain.1.jsonl"
    for number in range(200):
        trainer._write_journal(Site(tmp_path, ManualClock(), print, print), {"number": number})

        told = [entry["number"] for entry in read_journal(tmp_path, 20)]
        assert told == list(range(max(0, number - 19), number + 1))
        assert journal.stat().st_size < 1000 + 20
    assert 1000 <= older.stat().st_size < 1000 + 20
    assert {path.name for path in tmp_path.iterdir()} == {"retrain.jsonl", "retrain.1.jsonl"}


def test_a_journal_whose_new_file_was_not_begun_yet_is_read_all_the_same(tmp_path: Path):
    (tmp_path / "retrain.1.jsonl").write_bytes(b'{"kind": "promoted"}\n')
    assert read_journal(tmp_path) == [{"kind": "promoted"}]


def test_a_class_of_the_buffer_is_known_to_the_new_model(place):
    place.fill((150, 120, 90, 50), 1).run()
    data, y = windows((20, 20, 20, 20), 9)
    found = look(place.current, feature_map(place.current), data)
    assert (np.array(place.current.clusters)[found.labels] == "C4")[y == 3].all()
    assert (found.novelty[y == 3] > 0.995).mean() < 0.3


def test_a_cluster_is_split_because_a_person_asked_for_it(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    done = place.run()
    assert (done.kind, done.reasons) == ("promoted", ())
    assert "1 split" in place.store.activations()[-1].reason
    assert place.current.clusters == ("C1", "C2", "C3", "C4")
    assert classes(place) == ["C2", "C3", "C1", "C4"]
    assert [(one.kind, one.identity, one.parents) for one in wish.lineage()[-4:]] == [
        *(("keep", f"C{n}", ()) for n in (1, 2, 3)),
        ("split", "C4", ("C1",)),
    ]
    assert wish.splits() == {}
    assert wish.journal()[0][2:7] == ("retrain", "split_done", "C1", 2, "C1, C4")
    place.run()
    assert len(place.current.clusters) == 4, "nothing is split again"
    assert len(wish.journal()) == 2


def test_parts_that_a_person_merges_stay_merged_over_retrains(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    place.run()
    wish.merge("C4", "C1", "bob", 6)
    assert place.run().kind == "promoted"
    assert wish.merged() == {"C4": "C1"}
    assert classes(place) == ["C2", "C3", "C1", "C4"]


def test_a_split_that_cannot_be_done_stays_asked_for_with_the_reason(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 8, "anna", 5)
    done = place.run()
    why = wish.identities()["C1"].split_why
    assert done.kind == "promoted"
    assert "8 parts need 160" in why
    assert done.reasons == (f"C1 was not split: {why}",)
    assert wish.splits() == {"C1": 8}
    assert place.current.clusters == ("C1", "C2", "C3")


def test_a_split_that_the_gate_refuses_stays_asked_for_with_what_it_said(one_of_two, monkeypatch):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    worse = Check("separation", 0.3, 0.1, ok=False, text="separation: must be <= 0.1 (got 0.3)")
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "judge", lambda *_: Verdict(passed=False, checks=(worse,)))
        assert place.run().kind == "refused"
    assert place.current.clusters == ("C1", "C2", "C3")
    assert wish.splits() == {"C1": 2}
    assert wish.identities()["C1"].split_why == "the training was refused: separation: must be <= 0.1 (got 0.3)"
    assert place.run().kind == "promoted"
    assert wish.splits() == {}, "a later training tries again"


def test_a_split_that_is_taken_back_while_the_training_runs_is_not_used(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    place.told.clear()
    site = Site(
        place.path,
        place.clock,
        lambda step, _: step == "gate" and wish.splits() and wish.undo("anna", 6),
        place.activate,
    )
    place.clock.sleep(1)
    done = run(site, Settings(RetrainSpec(), PROFILE))
    assert (done.kind, done.reasons) == ("skipped", ("what people want split changed while the training ran: C1",))
    assert place.current.clusters == ("C1", "C2", "C3")


def test_a_wish_that_ends_its_training_begins_no_other_one_and_says_so(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    assert wished(place.path) == "split of C1 asked for by anna"

    def out_of_memory(step, _share):
        if step == "clusters":
            raise MemoryError

    with pytest.raises(MemoryError):
        run(Site(place.path, place.clock, out_of_memory, place.activate), Settings(RetrainSpec(), PROFILE))

    assert wished(place.path) is None
    assert wish.identities()["C1"].split_why == UNFINISHED
    assert place.run().kind == "promoted"
    assert wish.splits() == {}, "a later training tries again"


def test_killed_after_a_split_was_activated_it_is_not_done_again(one_of_two, monkeypatch):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    record = Identities.record

    def killed(self, lineage, *more):
        raise SinkUnavailable("killed")

    monkeypatch.setattr(Identities, "record", killed)
    with pytest.raises(SinkUnavailable):
        place.run()
    assert place.current.clusters == ("C1", "C2", "C3", "C4")
    assert wish.splits() == {"C1": 2}
    monkeypatch.setattr(Identities, "record", record)
    assert place.run().kind == "promoted"
    assert place.current.clusters == ("C1", "C2", "C3", "C4")
    assert (wish.splits(), wish.journal()[0].after) == ({}, "C1, C4")


def test_fitting_all_anew_splits_nothing_and_says_what_does(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    place.run(update="all")
    assert "--update centroids" in wish.identities()["C1"].split_why


def test_what_people_merged_meanwhile_is_not_split(one_of_two):
    place, wish = one_of_two, one_of_two.wish
    wish.split("C1", 2, "anna", 5)
    wish._con.execute("UPDATE identities SET merged_into = 'C1' WHERE id = 'C2'")
    place.run()
    assert wish.identities()["C1"].split_why == "people merged it with another one"


def test_a_training_without_windows_enough_says_so_with_the_wish(tmp_path, bundle):
    place = Place(tmp_path, bundle).fill((30, 20, 10), 1)
    place.run()
    with closing(Identities(tmp_path / IDENTITIES)) as wish:
        wish.split("C1", 2, "anna", 5)
        assert place.run().kind == "skipped"
        assert wish.identities()["C1"].split_why == "the training was skipped: there must be 80 windows in the buffer"
